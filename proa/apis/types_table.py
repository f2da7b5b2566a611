"""How the fields of upstream's types behave when they are empty: the table that `proa.apis.typed` reads.

One entry per type of `k8s.io/api` (and of apimachinery's meta), under the name of its OpenAPI definition's last part;
the words are explained there. Types whose fields need no care are missing.
"""

from __future__ import annotations

_TIMES = "lastTransitionTime=null"

META = {
    "ObjectMeta": (
        "name generateName namespace selfLink uid resourceVersion generation labels{} annotations{} "
        "ownerReferences[]:OwnerReference finalizers managedFields"
    ),
    "OwnerReference": "apiVersion=s kind=s name=s uid=s",
    "LabelSelector": "matchLabels{} matchExpressions[]:Requirement",
    "Requirement": "key=s operator=s",
    "Condition": f"type=s status=s observedGeneration {_TIMES} reason=s message=s",
    # The conditions of most older kinds, with their several times.
    "OldCondition": f"type=s status=s {_TIMES} reason message",
    "ProbedCondition": f"type=s status=s lastProbeTime=null {_TIMES} reason message observedGeneration",
    "UpdatedCondition": f"type=s status=s lastUpdateTime=null {_TIMES} reason message",
    "HeartbeatCondition": f"type=s status=s lastHeartbeatTime=null {_TIMES} reason message",
}

VOLUMES = {
    "KeyToPath": "key=s path=s",
    "LocalObjectReference": "name",
    "SecretReference": "name namespace",
    "FieldReference": "apiVersion fieldPath=s",
    "ResourceReference": "containerName resource=s divisor=~q",
    "DownwardItem": "path=s fieldRef:FieldReference resourceFieldRef:ResourceReference",
    "DownwardItems": "items[]:DownwardItem",
    "HostPath": "path=s",
    "EmptyDir": "medium sizeLimit~q",
    "PersistentDisk": "pdName=s fsType partition readOnly",
    "BlockStore": "volumeID=s fsType partition readOnly",
    "GitRepo": "repository=s revision directory",
    "SecretVolume": "secretName items[]:KeyToPath",
    "ConfigMapVolume": "name items[]:KeyToPath",
    "NFS": "server=s path=s readOnly",
    "ISCSI": (
        "targetPortal=s iqn=s lun=i iscsiInterface fsType readOnly chapAuthDiscovery chapAuthSession "
        "secretRef:SecretReference"
    ),
    "Glusterfs": "endpoints=s path=s readOnly",
    "ClaimVolume": "claimName=s readOnly",
    "RBD": "monitors=null image=s fsType pool user keyring secretRef:SecretReference readOnly",
    "FlexVolume": "driver=s fsType secretRef:SecretReference readOnly options{}",
    "Cinder": "volumeID=s fsType readOnly secretRef:SecretReference",
    "CephFS": "monitors=null path user secretFile secretRef:SecretReference readOnly",
    "Flocker": "datasetName datasetUUID",
    "FC": "fsType readOnly",
    "AzureFile": "secretName=s shareName=s readOnly",
    "VsphereVolume": "volumePath=s fsType storagePolicyName storagePolicyID",
    "Quobyte": "registry=s volume=s readOnly user group tenant",
    "AzureDisk": "diskName=s diskURI=s",
    "PhotonDisk": "pdID=s fsType",
    "Projected": "sources=[]:Projection",
    "Projection": (
        "secret:ConfigMapVolume configMap:ConfigMapVolume downwardAPI:DownwardItems "
        "serviceAccountToken:TokenProjection clusterTrustBundle:TrustBundle podCertificate:PodCertificate"
    ),
    "TokenProjection": "audience path=s",
    "TrustBundle": "path=s labelSelector:LabelSelector",
    "PodCertificate": "signerName keyType credentialBundlePath keyPath certificateChainPath",
    "Portworx": "volumeID=s fsType readOnly",
    "ScaleIO": (
        "gateway=s system=s secretRef:SecretReference sslEnabled protectionDomain storagePool storageMode volumeName "
        "fsType readOnly"
    ),
    "StorageOS": "volumeName volumeNamespace fsType readOnly secretRef:SecretReference",
    "CSIVolume": "driver=s volumeAttributes{} nodePublishSecretRef:LocalObjectReference",
    "Ephemeral": "volumeClaimTemplate:ClaimTemplate",
    "ClaimTemplate": "metadata=:ObjectMeta spec=:PersistentVolumeClaimSpec",
    "ImageVolume": "reference pullPolicy",
    "Volume": (
        "name=s hostPath:HostPath emptyDir:EmptyDir gcePersistentDisk:PersistentDisk awsElasticBlockStore:BlockStore "
        "gitRepo:GitRepo secret:SecretVolume nfs:NFS iscsi:ISCSI glusterfs:Glusterfs persistentVolumeClaim:ClaimVolume "
        "rbd:RBD flexVolume:FlexVolume cinder:Cinder cephfs:CephFS flocker:Flocker downwardAPI:DownwardItems fc:FC "
        "azureFile:AzureFile configMap:ConfigMapVolume vsphereVolume:VsphereVolume quobyte:Quobyte "
        "azureDisk:AzureDisk photonPersistentDisk:PhotonDisk projected:Projected portworxVolume:Portworx "
        "scaleIO:ScaleIO storageos:StorageOS csi:CSIVolume ephemeral:Ephemeral image:ImageVolume"
    ),
    "PersistentVolumeSpec": (
        "capacity{}r hostPath:HostPath gcePersistentDisk:PersistentDisk awsElasticBlockStore:BlockStore nfs:NFS "
        "iscsi:ISCSI glusterfs:Glusterfs rbd:RBD flexVolume:FlexVolume cinder:Cinder cephfs:CephFS flocker:Flocker "
        "fc:FC azureFile:AzureFile vsphereVolume:VsphereVolume quobyte:Quobyte azureDisk:AzureDisk "
        "photonPersistentDisk:PhotonDisk portworxVolume:Portworx scaleIO:ScaleIO storageos:PersistentStorageOS "
        "csi:PersistentCSI local:LocalVolume claimRef:ObjectReference persistentVolumeReclaimPolicy storageClassName "
        "nodeAffinity:VolumeNodeAffinity"
    ),
    "PersistentStorageOS": "volumeName volumeNamespace fsType readOnly secretRef:ObjectReference",
    "PersistentCSI": (
        "driver=s volumeHandle=s readOnly fsType volumeAttributes{} controllerPublishSecretRef:SecretReference "
        "nodeStageSecretRef:SecretReference nodePublishSecretRef:SecretReference "
        "controllerExpandSecretRef:SecretReference nodeExpandSecretRef:SecretReference"
    ),
    "LocalVolume": "path=s",
    "VolumeNodeAffinity": "required:NodeSelector",
    "PersistentVolume": "metadata=:ObjectMeta spec=:PersistentVolumeSpec status=:PersistentVolumeStatus",
    "PersistentVolumeStatus": "phase message reason lastPhaseTransitionTime~t",
    "PersistentVolumeClaim": "metadata=:ObjectMeta spec=:PersistentVolumeClaimSpec status=:ClaimStatus",
    "PersistentVolumeClaimSpec": (
        "selector:LabelSelector resources=:VolumeResources volumeName dataSource:TypedReference "
        "dataSourceRef:TypedReference"
    ),
    "VolumeResources": "limits{}r requests{}r",
    "TypedReference": "apiGroup=null kind=s name=s",
    "ClaimStatus": (
        "phase capacity{}r conditions[]:ProbedCondition allocatedResources{}r allocatedResourceStatuses{} "
        "modifyVolumeStatus:ModifyVolumeStatus"
    ),
    "ModifyVolumeStatus": "targetVolumeAttributesClassName status=s",
}

PODS = {
    "Pod": "metadata=:ObjectMeta spec=:PodSpec status=:PodStatus",
    "PodTemplate": "metadata=:ObjectMeta template=:PodTemplateSpec",
    "PodTemplateSpec": "metadata=:ObjectMeta spec=:PodSpec",
    "PodSpec": (
        "volumes[]:Volume initContainers[]:Container containers=[]:Container ephemeralContainers[]:Container "
        "restartPolicy dnsPolicy nodeSelector{} serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC "
        "securityContext:PodSecurityContext imagePullSecrets[]:LocalObjectReference hostname subdomain "
        "affinity:Affinity schedulerName tolerations[]:Toleration hostAliases[]:HostAlias priorityClassName "
        "dnsConfig:DNSConfig readinessGates[]:ReadinessGate overhead{}r topologySpreadConstraints[]:Spread os:Named "
        "resourceClaims[]:Named schedulingGates[]:Named resources:Resources"
    ),
    "Container": (
        "name=s image workingDir ports[]:ContainerPort envFrom[]:EnvFromSource env[]:EnvVar resources=:Resources "
        "resizePolicy[]:ResizePolicy volumeMounts[]:VolumeMount volumeDevices[]:VolumeDevice livenessProbe:Probe "
        "readinessProbe:Probe startupProbe:Probe lifecycle:Lifecycle terminationMessagePath terminationMessagePolicy "
        "imagePullPolicy securityContext:SecurityContext stdin stdinOnce tty targetContainerName "
        "restartPolicyRules[]:RestartRule"
    ),
    "Named": "name=s",
    "ContainerPort": "name hostPort containerPort=i protocol hostIP",
    "EnvFromSource": "prefix configMapRef:LocalObjectReference secretRef:LocalObjectReference",
    "EnvVar": "name=s value valueFrom:EnvVarSource",
    "EnvVarSource": (
        "fieldRef:FieldReference resourceFieldRef:ResourceReference configMapKeyRef:KeyReference "
        "secretKeyRef:KeyReference fileKeyRef:FileReference"
    ),
    "KeyReference": "name key=s",
    "FileReference": "volumeName=s path=s key=s",
    "Resources": "limits{}r requests{}r claims[]:ResourceClaim",
    "ResourceClaim": "name=s request",
    "ResizePolicy": "resourceName=s restartPolicy=s",
    "RestartRule": "action exitCodes:ExitCodes",
    "ExitCodes": "operator",
    "VolumeMount": "name=s readOnly mountPath=s subPath subPathExpr",
    "VolumeDevice": "name=s devicePath=s",
    "Probe": (
        "exec:Exec httpGet:HTTPGet tcpSocket:TCPSocket grpc:GRPC initialDelaySeconds timeoutSeconds periodSeconds "
        "successThreshold failureThreshold"
    ),
    "Exec": "command",
    "HTTPGet": "path port=i host scheme httpHeaders[]:HTTPHeader",
    "HTTPHeader": "name=s value=s",
    "TCPSocket": "port=i host",
    "GRPC": "port=i service=s",
    "Lifecycle": "postStart:Handler preStop:Handler",
    "Handler": "exec:Exec httpGet:HTTPGet tcpSocket:TCPSocket sleep:Sleep",
    "Sleep": "seconds=i",
    "SecurityContext": (
        "capabilities:Capabilities seLinuxOptions:SELinux seccompProfile:Profile appArmorProfile:Profile "
        "windowsOptions:Windows"
    ),
    "PodSecurityContext": (
        "seLinuxOptions:SELinux sysctls[]:Sysctl seccompProfile:Profile appArmorProfile:Profile windowsOptions:Windows"
    ),
    "Capabilities": "",
    "SELinux": "user role type level",
    "Profile": "type=s",
    "Windows": "",
    "Sysctl": "name=s value=s",
    "Toleration": "key operator value effect",
    "HostAlias": "ip=s",
    "DNSConfig": "options[]:DNSOption",
    "DNSOption": "name",
    "ReadinessGate": "conditionType=s",
    "Spread": "maxSkew=i topologyKey=s whenUnsatisfiable=s labelSelector:LabelSelector",
    "Affinity": "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity",
    "NodeAffinity": (
        "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector "
        "preferredDuringSchedulingIgnoredDuringExecution[]:PreferredTerm"
    ),
    "NodeSelector": "nodeSelectorTerms=[]:NodeSelectorTerm",
    "NodeSelectorTerm": "matchExpressions[]:Requirement matchFields[]:Requirement",
    "PreferredTerm": "weight=i preference=:NodeSelectorTerm",
    "PodAffinity": (
        "requiredDuringSchedulingIgnoredDuringExecution[]:PodAffinityTerm "
        "preferredDuringSchedulingIgnoredDuringExecution[]:WeightedTerm"
    ),
    "PodAffinityTerm": "labelSelector:LabelSelector topologyKey=s namespaceSelector:LabelSelector",
    "WeightedTerm": "weight=i podAffinityTerm=:PodAffinityTerm",
    "PodStatus": (
        "phase conditions[]:ProbedCondition message reason nominatedNodeName hostIP podIP qosClass resize "
        "observedGeneration startTime~t hostIPs[]:HostIP podIPs[]:PodIP initContainerStatuses[]:ContainerStatus "
        "containerStatuses[]:ContainerStatus ephemeralContainerStatuses[]:ContainerStatus "
        "resourceClaimStatuses[]:Named"
    ),
    "HostIP": "ip=s",
    "PodIP": "ip=s",
    "ContainerStatus": (
        "name=s state=:ContainerState lastState=:ContainerState ready=b restartCount=i image=s imageID=s containerID "
        "allocatedResources{}r resources:Resources volumeMounts[]:MountStatus"
    ),
    "MountStatus": "name=s mountPath=s readOnly",
    "ContainerState": "waiting:Waiting running:Running terminated:Terminated",
    "Waiting": "reason message",
    "Running": "startedAt=null",
    "Terminated": "exitCode=i signal reason message startedAt=null finishedAt=null containerID",
}

CORE = {
    "ObjectReference": "kind namespace name uid apiVersion resourceVersion fieldPath",
    "ConfigMap": "metadata=:ObjectMeta data{} binaryData{}",
    "Secret": "metadata=:ObjectMeta data{} stringData{} type",
    "ServiceAccount": "metadata=:ObjectMeta secrets[]:ObjectReference imagePullSecrets[]:LocalObjectReference",
    "Namespace": "metadata=:ObjectMeta spec=:NamespaceSpec status=:NamespaceStatus",
    "NamespaceSpec": "",
    "NamespaceStatus": "phase conditions[]:OldCondition",
    "Node": "metadata=:ObjectMeta spec=:NodeSpec status=:NodeStatus",
    "NodeSpec": "podCIDR externalID providerID unschedulable taints[]:Taint",
    "Taint": "key=s value effect=s timeAdded~t",
    "NodeStatus": (
        "capacity{}r allocatable{}r phase conditions[]:HeartbeatCondition addresses[]:NodeAddress "
        "daemonEndpoints=:DaemonEndpoints nodeInfo=:NodeInfo images[]:ContainerImage volumesAttached[]:AttachedVolume"
    ),
    "NodeAddress": "type=s address=s",
    "DaemonEndpoints": "kubeletEndpoint=:DaemonEndpoint",
    "DaemonEndpoint": "Port=i",
    "NodeInfo": (
        "machineID=s systemUUID=s bootID=s kernelVersion=s osImage=s containerRuntimeVersion=s kubeletVersion=s "
        "kubeProxyVersion=s operatingSystem=s architecture=s"
    ),
    "ContainerImage": "sizeBytes",
    "AttachedVolume": "name=s devicePath=s",
    "Service": "metadata=:ObjectMeta spec=:ServiceSpec status=:ServiceStatus",
    "ServiceSpec": (
        "ports[]:ServicePort selector{} clusterIP type sessionAffinity loadBalancerIP externalName "
        "externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses"
    ),
    "ServicePort": "name protocol port=i targetPort=i nodePort",
    "ServiceStatus": "loadBalancer=:LoadBalancerStatus conditions[]:Condition",
    "LoadBalancerStatus": "ingress[]:LoadBalancerIngress",
    "LoadBalancerIngress": "ip hostname ports[]:PortStatus",
    "PortStatus": "port=i protocol=s",
    "Endpoints": "metadata=:ObjectMeta subsets[]:EndpointSubset",
    "EndpointSubset": "addresses[]:EndpointAddress notReadyAddresses[]:EndpointAddress ports[]:EndpointPort",
    "EndpointAddress": "ip=s hostname targetRef:ObjectReference",
    "EndpointPort": "name port=i protocol",
    "Event": (
        "metadata=:ObjectMeta involvedObject=:ObjectReference reason message source=:EventSource firstTimestamp=null "
        "lastTimestamp=null count type eventTime=null series:EventSeries action related:ObjectReference "
        "reportingComponent=s reportingInstance=s"
    ),
    "EventSource": "component host",
    "EventSeries": "count lastObservedTime=null",
    "LimitRange": "metadata=:ObjectMeta spec=:LimitRangeSpec",
    "LimitRangeSpec": "limits=[]:LimitRangeItem",
    "LimitRangeItem": "type=s max{}r min{}r default{}r defaultRequest{}r maxLimitRequestRatio{}r",
    "ResourceQuota": "metadata=:ObjectMeta spec=:ResourceQuotaSpec status=:ResourceQuotaStatus",
    "ResourceQuotaSpec": "hard{}r scopeSelector:ScopeSelector",
    "ScopeSelector": "matchExpressions[]:ScopeRequirement",
    "ScopeRequirement": "scopeName=s operator=s",
    "ResourceQuotaStatus": "hard{}r used{}r",
    "ReplicationController": "metadata=:ObjectMeta spec=:ReplicationControllerSpec status=:ReplicasStatus",
    "ReplicationControllerSpec": "minReadySeconds selector{} template:PodTemplateSpec",
    "ReplicasStatus": (
        "replicas=i fullyLabeledReplicas readyReplicas availableReplicas observedGeneration conditions[]:OldCondition"
    ),
    "ComponentStatus": "metadata=:ObjectMeta conditions[]:ComponentCondition",
    "ComponentCondition": "type=s status=s message error",
}

OTHERS = {
    "Deployment": "metadata=:ObjectMeta spec=:DeploymentSpec status=:DeploymentStatus",
    "DeploymentSpec": (
        "selector:LabelSelector template=:PodTemplateSpec strategy=:RolloutStrategy minReadySeconds paused"
    ),
    "RolloutStrategy": "type",
    "DeploymentStatus": (
        "observedGeneration replicas updatedReplicas readyReplicas availableReplicas unavailableReplicas "
        "conditions[]:UpdatedCondition"
    ),
    "ReplicaSet": "metadata=:ObjectMeta spec=:ReplicaSetSpec status=:ReplicasStatus",
    "ReplicaSetSpec": "minReadySeconds selector:LabelSelector template=:PodTemplateSpec",
    "StatefulSet": "metadata=:ObjectMeta spec=:StatefulSetSpec status=:StatefulSetStatus",
    "StatefulSetSpec": (
        "selector:LabelSelector template=:PodTemplateSpec volumeClaimTemplates[]:PersistentVolumeClaim serviceName=s "
        "podManagementPolicy updateStrategy=:RolloutStrategy minReadySeconds ordinals:Ordinals"
    ),
    "Ordinals": "start=i",
    "StatefulSetStatus": (
        "observedGeneration replicas=i readyReplicas currentReplicas updatedReplicas currentRevision updateRevision "
        "conditions[]:OldCondition availableReplicas=i"
    ),
    "DaemonSet": "metadata=:ObjectMeta spec=:DaemonSetSpec status=:DaemonSetStatus",
    "DaemonSetSpec": (
        "selector:LabelSelector template=:PodTemplateSpec updateStrategy=:RolloutStrategy minReadySeconds"
    ),
    "DaemonSetStatus": (
        "currentNumberScheduled=i numberMisscheduled=i desiredNumberScheduled=i numberReady=i observedGeneration "
        "updatedNumberScheduled numberAvailable numberUnavailable conditions[]:OldCondition"
    ),
    "ControllerRevision": "metadata=:ObjectMeta revision=i",
    "Job": "metadata=:ObjectMeta spec=:JobSpec status=:JobStatus",
    "JobSpec": (
        "selector:LabelSelector template=:PodTemplateSpec podFailurePolicy:PodFailurePolicy successPolicy:SuccessPolicy"
    ),
    "PodFailurePolicy": "rules=[]:PodFailureRule",
    "PodFailureRule": "action=s onExitCodes:OnExitCodes onPodConditions[]:OnPodCondition",
    "OnExitCodes": "operator=s values=null",
    "OnPodCondition": "type=s status=s",
    "SuccessPolicy": "rules=[]:SuccessRule",
    "SuccessRule": "",
    "JobStatus": (
        "conditions[]:ProbedCondition startTime~t completionTime~t active succeeded failed completedIndexes "
        "uncountedTerminatedPods:UncountedPods"
    ),
    "UncountedPods": "",
    "CronJob": "metadata=:ObjectMeta spec=:CronJobSpec status=:CronJobStatus",
    "CronJobSpec": "schedule=s concurrencyPolicy jobTemplate=:JobTemplateSpec",
    "JobTemplateSpec": "metadata=:ObjectMeta spec=:JobSpec",
    "CronJobStatus": "active[]:ObjectReference lastScheduleTime~t lastSuccessfulTime~t",
    "HorizontalPodAutoscaler": "metadata=:ObjectMeta spec=:AutoscalerSpec status=:AutoscalerStatus",
    "AutoscalerSpec": "scaleTargetRef=:ScaleTarget maxReplicas=i metrics[]:Metric behavior:Behavior",
    "ScaleTarget": "kind=s name=s apiVersion",
    "Metric": (
        "type=s object:ObjectMetric pods:PodsMetric resource:ResourceMetric containerResource:ContainerMetric "
        "external:PodsMetric"
    ),
    "ObjectMetric": "describedObject=:ScaleTarget target=:MetricTarget metric=:MetricName",
    "PodsMetric": "metric=:MetricName target=:MetricTarget",
    "ResourceMetric": "name=s target=:MetricTarget",
    "ContainerMetric": "name=s target=:MetricTarget container=s",
    "MetricName": "name=s selector:LabelSelector",
    "MetricTarget": "type=s value~q averageValue~q",
    "Behavior": "scaleUp:ScalingRules scaleDown:ScalingRules",
    "ScalingRules": "tolerance~q policies[]:ScalingPolicy",
    "ScalingPolicy": "type=s value=i periodSeconds=i",
    "AutoscalerStatus": (
        "currentReplicas desiredReplicas=i currentMetrics=[]:MetricStatus conditions[]:OldCondition lastScaleTime~t"
    ),
    "MetricStatus": (
        "type=s object:ObjectMetricStatus pods:PodsMetricStatus resource:ResourceMetricStatus "
        "containerResource:ContainerMetricStatus external:PodsMetricStatus"
    ),
    "ObjectMetricStatus": "metric=:MetricName current=:MetricValue describedObject=:ScaleTarget",
    "PodsMetricStatus": "metric=:MetricName current=:MetricValue",
    "ResourceMetricStatus": "name=s current=:MetricValue",
    "ContainerMetricStatus": "name=s current=:MetricValue container=s",
    "MetricValue": "value~q averageValue~q",
    "HorizontalPodAutoscalerV1": "metadata=:ObjectMeta spec=:AutoscalerSpecV1 status=:AutoscalerStatusV1",
    "AutoscalerSpecV1": "scaleTargetRef=:ScaleTarget maxReplicas=i",
    "AutoscalerStatusV1": "currentReplicas=i desiredReplicas=i lastScaleTime~t",
    "PodDisruptionBudget": "metadata=:ObjectMeta spec=:DisruptionSpec status=:DisruptionStatus",
    "DisruptionSpec": "selector:LabelSelector",
    "DisruptionStatus": (
        "observedGeneration disruptedPods{} disruptionsAllowed=i currentHealthy=i desiredHealthy=i expectedPods=i "
        "conditions[]:Condition"
    ),
    "Lease": "metadata=:ObjectMeta spec=:LeaseSpec",
    "LeaseSpec": "acquireTime~m renewTime~m",
    "EndpointSlice": "metadata=:ObjectMeta addressType=s endpoints=[]:Endpoint ports=[]:SlicePort",
    "Endpoint": (
        "addresses=null conditions=:EndpointConditions targetRef:ObjectReference deprecatedTopology{} "
        "hints:EndpointHints"
    ),
    "EndpointConditions": "",
    "EndpointHints": "forZones[]:Named forNodes[]:Named",
    "SlicePort": "",
    "EventV1": (
        "metadata=:ObjectMeta eventTime=null series:EventSeriesV1 reportingController reportingInstance action reason "
        "regarding=:ObjectReference related:ObjectReference note type deprecatedSource=:EventSource "
        "deprecatedFirstTimestamp=null deprecatedLastTimestamp=null deprecatedCount"
    ),
    "EventSeriesV1": "count=i lastObservedTime=null",
}

TYPES: dict[str, str] = {**META, **VOLUMES, **PODS, **CORE, **OTHERS}
