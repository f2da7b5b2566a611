// Drives a cluster with @kubernetes/client-node: list, watch, create, patch, exec. Prints one JSON object.
import * as k8s from '@kubernetes/client-node';
import { PassThrough } from 'node:stream';

const [namespace] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const result = {};

result.nodes = (await core.listNode()).items.length;

const seen = [];
let finish;
const deleted = new Promise((resolve) => { finish = resolve; });
const watch = new k8s.Watch(config);
const watching = await watch.watch(
  `/api/v1/namespaces/${namespace}/configmaps`,
  { fieldSelector: 'metadata.name=node' },
  (type) => { seen.push(type); if (type === 'DELETED') finish(); },
  () => {},
);
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'node' }, data: { a: '1' } } });
const patched = await core.patchNamespacedConfigMap(
  { namespace, name: 'node', body: [{ op: 'add', path: '/data/b', value: '2' }] },
);
result.data = patched.data;
await core.deleteNamespacedConfigMap({ namespace, name: 'node' });
await deleted;
watching.abort();
result.seen = seen;

const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, () => core.listNamespacedPod({ namespace }));
const ready = new Promise((resolve) => {
  const look = (pod) => {
    if (pod.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True')) resolve(pod);
  };
  informer.on('add', look);
  informer.on('update', look);
});
await informer.start();
await core.createNamespacedPod({
  namespace,
  body: {
    metadata: { name: 'node' },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [{
        name: 'c', image: 'docker.io/library/busybox:latest', imagePullPolicy: 'IfNotPresent', command: ['sleep', '3600'],
      }],
    },
  },
});
result.pod = (await ready).metadata.name;
await informer.stop();

const output = new PassThrough();
let text = '';
output.on('data', (chunk) => { text += chunk; });
result.exec = await new Promise((resolve, reject) => {
  new k8s.Exec(config)
    .exec(namespace, 'node', 'c', ['echo', 'hi'], output, process.stderr, null, false, (status) => resolve(status.status))
    .catch(reject);
});
result.output = text;
console.log(JSON.stringify(result));
process.exit(0);
