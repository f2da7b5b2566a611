// An operator of custom resources `Memo` with @kubernetes/client-node: leader election on a Lease, informers on what it
// watches and on what it makes, a status subresource, an owned config map and a finalizer.
// Arguments: namespace, identity. Prints one line when it begins to lead.
import * as k8s from '@kubernetes/client-node';

const [namespace, identity] = process.argv.slice(2);
const GROUP = { group: 'example.com', version: 'v1', namespace, plural: 'memos' };
const FINALIZER = 'example.com/farewell';
const LEASE = 'memo-operator';
const LEASE_SECONDS = 3;
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const coordination = config.makeApiClient(k8s.CoordinationV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const merging = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });
const code = (error) => error.code ?? 0;

// ---------------------------------------------------------------- leading

// Takes or renews the lease; answers whether this candidate holds it. The time of another's record is its own affair:
// only how long it has not changed counts.
let seen = { version: '', at: 0 };
async function hold() {
  const now = new k8s.V1MicroTime();
  let lease;
  try {
    lease = await coordination.readNamespacedLease({ namespace, name: LEASE });
  } catch (error) {
    if (code(error) !== 404) throw error;
    const spec = { holderIdentity: identity, leaseDurationSeconds: LEASE_SECONDS, acquireTime: now, renewTime: now };
    await coordination.createNamespacedLease({ namespace, body: { metadata: { name: LEASE }, spec } });
    return true;
  }
  if (lease.spec.holderIdentity !== identity) {
    if (lease.metadata.resourceVersion !== seen.version) seen = { version: lease.metadata.resourceVersion, at: Date.now() };
    if (Date.now() - seen.at < LEASE_SECONDS * 1000) return false;
    lease.spec = { ...lease.spec, holderIdentity: identity, acquireTime: now, leaseTransitions: (lease.spec.leaseTransitions ?? 0) + 1 };
  }
  lease.spec.renewTime = now;
  await coordination.replaceNamespacedLease({ namespace, name: LEASE, body: lease });
  return true;
}

async function lead(start) {
  for (let leading = false; ; await pause(500)) {
    let held = false;
    try {
      held = await hold();
    } catch (error) {
      if (![404, 409].includes(code(error))) throw error;
    }
    if (leading && !held) process.exit(1);
    if (held && !leading) {
      leading = true;
      console.log(`leading ${identity}`);
      await start();
    }
  }
}

// ---------------------------------------------------------------- reconciling

async function reconcile(memo) {
  const { name, generation, deletionTimestamp, uid } = memo.metadata;
  const finalizers = memo.metadata.finalizers ?? [];
  const own = { ...GROUP, name };
  if (deletionTimestamp) {
    if (!finalizers.includes(FINALIZER)) return;
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `farewell-${name}` } } });
    const body = { metadata: { finalizers: finalizers.filter((one) => one !== FINALIZER) } };
    await custom.patchNamespacedCustomObject({ ...own, body }, merging);
    return;
  }
  if (!finalizers.includes(FINALIZER)) {
    await custom.patchNamespacedCustomObject({ ...own, body: { metadata: { finalizers: [...finalizers, FINALIZER] } } }, merging);
    return; // the change comes back through the informer
  }
  const owner = { apiVersion: 'example.com/v1', kind: 'Memo', name, uid, controller: true, blockOwnerDeletion: true };
  const made = { metadata: { name, labels: { memo: 'yes' }, ownerReferences: [owner] }, data: { text: memo.spec.text, by: identity } };
  const known = copies.get(name, namespace);
  if (!known) {
    await core.createNamespacedConfigMap({ namespace, body: made });
  } else if (known.data?.text !== memo.spec.text) {
    made.metadata.resourceVersion = known.metadata.resourceVersion;
    await core.replaceNamespacedConfigMap({ namespace, name, body: made });
  }
  if (memo.status?.observedGeneration !== generation) {
    const body = { status: { observedGeneration: generation, by: identity } };
    await custom.patchNamespacedCustomObjectStatus({ ...own, body }, merging);
  }
}

// One at a time; what fails is tried again from what the informer then shows.
const queue = new Set();
let working = false;
async function work() {
  if (working) return;
  working = true;
  while (queue.size) {
    const [name] = queue;
    queue.delete(name);
    const memo = memos.get(name, namespace);
    try {
      if (memo) await reconcile(memo);
    } catch (error) {
      if (![404, 409].includes(code(error))) console.error(error);
      queue.add(name);
      await pause(100);
    }
  }
  working = false;
}
const enqueue = (name) => { queue.add(name); work(); };

const memos = k8s.makeInformer(config, `/apis/example.com/v1/namespaces/${namespace}/memos`, () => custom.listNamespacedCustomObject(GROUP));
const selector = 'memo=yes';
const copies = k8s.makeInformer(
  config,
  `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace, labelSelector: selector }),
  selector,
);
for (const verb of ['add', 'update']) memos.on(verb, (memo) => enqueue(memo.metadata.name));
for (const verb of ['update', 'delete']) copies.on(verb, (map) => enqueue(map.metadata.name));
for (const informer of [memos, copies]) informer.on('error', () => setTimeout(() => informer.start(), 200));

await lead(async () => {
  await copies.start();
  await memos.start();
});
