/** Messages as the server sends them, for the tests of the panel. */
import {
  type CellAccount,
  type Gpu,
  type Node,
  type ResizePlan,
  type Resources,
  type RuntimeStatus,
  type Work,
  type RuntimeView,
  type Sample
} from '../../labextension/src/messages';
import { type IReading, NOTHING } from '../../labextension/src/runtime';

const GIB = 2 ** 30;

export function gpu(changes: Partial<Gpu> = {}): Gpu {
  return {
    index: 0,
    uuid: 'GPU-0',
    name: 'H200',
    mig: false,
    utilization_percent: 35,
    memory_used_bytes: 3 * GIB,
    memory_limit_bytes: 80 * GIB,
    temperature_celsius: null,
    power_watts: null,
    power_limit_watts: null,
    processes: [],
    ...changes
  };
}

export function sample(changes: Partial<Sample> = {}): Sample {
  return {
    at: 1000,
    host: {
      cpu_percent: 40,
      cpus: 2,
      memory_used_bytes: Math.round(1.2 * GIB),
      memory_limit_bytes: 24 * GIB,
      shm_used_bytes: null,
      shm_limit_bytes: null,
      disk_used_bytes: null,
      disk_limit_bytes: null
    },
    processes: [],
    gpus: null,
    ray: null,
    ...changes
  };
}

export function status(changes: Partial<RuntimeStatus> = {}): RuntimeStatus {
  return {
    runtime_id: 'r1',
    version: 1,
    state: 'ready',
    reason: '',
    since: 1000,
    started_at: 999,
    provider: 'local',
    boot_mode: 'slim',
    owner: { pid: 1, started_at: 1, kernel_id: 'k1' },
    supervisor_pid: 2,
    steps: [],
    transitions: [],
    address: null,
    token_path: null,
    session_dir: '/s',
    log_dir: '/l',
    resources: null,
    limits: null,
    failure: null,
    resize: null,
    ...changes
  };
}

export function view(changes: Partial<RuntimeView> = {}): RuntimeView {
  return { at: 1000, status: status(), sample: sample(), ...changes };
}

export function reading(changes: Partial<IReading> = {}): IReading {
  return { ...NOTHING, isKnown: true, kernelId: 'k1', view: view(), receivedAt: 5000, ...changes };
}

export function resources(changes: Partial<Resources> = {}): Resources {
  return { cpus: 2, gpus: 0, memory_bytes: 8 * GIB, object_store_bytes: GIB, nodes: 1, ...changes };
}

export function plan(changes: Partial<ResizePlan> = {}): ResizePlan {
  return {
    current: resources(),
    target: resources({ cpus: 4 }),
    changes: [{ kind: 'grow_cpus', amount: 2, node: null, text: 'adds 2 CPUs' }],
    losses: {},
    waits_for: [],
    warnings: [],
    estimated_seconds: 0.2,
    command: '%resize cpus=4',
    ...changes
  };
}

export function node(changes: Partial<Node> = {}): Node {
  return {
    node_id: 'n1',
    name: 'node-1',
    head: false,
    state: 'alive',
    address: '127.0.0.1',
    cpus: 8,
    gpus: 0,
    memory_bytes: GIB,
    object_store_bytes: GIB,
    cpus_used: 3,
    gpus_used: 0,
    ...changes
  };
}

export function account(changes: Partial<CellAccount> = {}): CellAccount {
  return {
    cell_id: 'c1',
    started_at: 1000,
    ended_at: 1002,
    cpu_seconds: 1.5,
    gpu_seconds: null,
    peak_memory_bytes: 512 * 2 ** 20,
    peak_gpu_memory_bytes: null,
    ...changes
  };
}

export function work(changes: Partial<Work> = {}): Work {
  return {
    task_id: 'w1',
    kind: 'xgboost',
    name: 'XGBEstimator.fit',
    unit: 'rounds',
    state: 'running',
    started_at: Date.now() / 1000 - 10,
    updated_at: Date.now() / 1000,
    ended_at: null,
    done: 20,
    total: 50,
    metrics: { 'train-rmse': 0.123456 },
    workers: [{ rank: 0, rows: 1000, memory_bytes: GIB }],
    log_path: '/tmp/w1.log',
    ...changes
  };
}
