/**
 * The threads of one engine: this one, which is thread 0, and workers that sleep in the module between inferences.
 *
 * `run` writes what to do into the control block, changes the epoch, does its own share and waits until the workers have
 * finished. A trap in any thread is told to all through the control block, so that nobody waits for a thread that is gone.
 */
import { Bug, ModelError } from '../../core/errors.ts';
import { type HostWorker, spawnWorker } from '../../host/workers.ts';
import { CONTROL, CONTROL_ADDRESS, STOP } from './control.ts';
import type { EngineMemory } from './memory.ts';

export interface Team {
  readonly threads: number;
  /** All steps over the arena at an address, on all threads. Allocates nothing. Throws Bug where the code traps. */
  run(arena: number): void;
  /** One step on this thread. */
  step(index: number, arena: number): void;
  /** Ends the workers; they need no waiting for. */
  end(): void;
}

interface ProgramExports {
  readonly run: (weights: number, arena: number, control: number, thread: number, threads: number) => void;
  readonly step: (index: number, weights: number, arena: number) => void;
}

/** Looks at `finished` as often before it sleeps: workers that share the last step come at about the same time. */
const SPINS = 10_000;
/** A sleeper looks up as often as this, in case a worker has failed. */
const SLEEP_MS = 100;

/** Instantiates the module, says so, and works until told to end. */
const WORKER_SOURCE = `
receive(({ module, memory, control, thread, stop, generation, finished, failed }) => {
  const { worker } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const words = new Int32Array(memory.buffer, control);
  send('ready');
  try {
    worker(control, thread);
  } catch {
    Atomics.store(words, stop, failed);
    Atomics.notify(words, generation);
    Atomics.notify(words, finished);
  }
  finish();
});
`;

/** Starts the threads that a team will need; what else opening takes can go on meanwhile. */
export function spawnWorkers(count: number): readonly HostWorker[] {
  const workers: HostWorker[] = [];
  try {
    for (let i = 0; i < count; i++) workers.push(spawnWorker(WORKER_SOURCE));
    return workers;
  } catch (cause) {
    endWorkers(workers);
    throw refused(count + 1, cause);
  }
}

export function endWorkers(workers: readonly HostWorker[]): void {
  for (const worker of workers) worker.terminate();
}

/** Resolves when every worker waits for work. Throws ModelError `target-unavailable` where the host refuses threads. */
export async function startTeam(
  module: WebAssembly.Module,
  memory: EngineMemory,
  workers: readonly HostWorker[],
  mayWait: boolean,
): Promise<Team> {
  const { run, step } = instantiate(module, memory);
  const { stop, generation, finished } = CONTROL;
  const words = { stop, generation, finished, failed: STOP.failed };
  workers.forEach((worker, i) => {
    worker.start({ module, memory: memory.memory, control: CONTROL_ADDRESS, thread: i + 1, ...words });
  });
  try {
    await Promise.all(workers.map((worker) => worker.next()));
  } catch (cause) {
    throw refused(workers.length + 1, cause);
  }
  return makeTeam(run, step, memory, workers, mayWait);
}

/** Throws ModelError `engine-parse` where the module is not one that emitProgram makes. */
function instantiate(module: WebAssembly.Module, memory: EngineMemory): ProgramExports {
  try {
    const { run, step } = new WebAssembly.Instance(module, { env: { memory: memory.memory } }).exports;
    if (typeof run === 'function' && typeof step === 'function') return { run, step } as ProgramExports;
  } catch (cause) {
    throw new ModelError('engine-parse', "the engine's code cannot be linked", { cause });
  }
  throw new ModelError('engine-parse', "the engine's code does not export run and step");
}

const refused = (threads: number, cause: unknown): ModelError =>
  new ModelError('target-unavailable', `this host does not give ${threads} threads`, {
    hint: 'open the engine with fewer, or 1',
    cause,
  });

function makeTeam(
  run: ProgramExports['run'],
  step: ProgramExports['step'],
  memory: EngineMemory,
  workers: readonly HostWorker[],
  mayWait: boolean,
): Team {
  const threads = workers.length + 1;
  const weights = memory.weightsAddress;
  // A shared memory's views outlive its growth; with one thread the words are not used after this.
  const words = memory.words();
  const counters = memory.counters();
  words[CONTROL.mayWait] = mayWait ? 1 : 0;

  const awaitWorkers = (): void => {
    for (let spins = 0; ; spins++) {
      const finished = Atomics.load(words, CONTROL.finished);
      if (finished === threads - 1) return;
      if (spins < SPINS) continue;
      if (Atomics.load(words, CONTROL.stop) === STOP.failed) throw new Error('a worker trapped');
      if (mayWait) Atomics.wait(words, CONTROL.finished, finished, SLEEP_MS);
    }
  };
  const runShared = (arena: number): void => {
    words[CONTROL.weights] = weights;
    words[CONTROL.arena] = arena;
    words[CONTROL.threads] = threads;
    counters.fill(0);
    Atomics.store(words, CONTROL.finished, 0);
    Atomics.add(words, CONTROL.epoch, 1);
    if (Atomics.load(words, CONTROL.sleepers) > 0) Atomics.notify(words, CONTROL.epoch);
    run(weights, arena, CONTROL_ADDRESS, 0, threads);
    awaitWorkers();
  };
  const fail = (cause: unknown): never => {
    if (threads > 1) {
      Atomics.store(words, CONTROL.stop, STOP.failed);
      Atomics.notify(words, CONTROL.generation);
      Atomics.notify(words, CONTROL.epoch);
    }
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new Bug('wasm-trap', `the engine's code trapped: ${message}`, { cause });
  };
  return {
    threads,
    run: (arena) => {
      try {
        if (threads > 1) runShared(arena);
        else run(weights, arena, CONTROL_ADDRESS, 0, 1);
      } catch (cause) {
        fail(cause);
      }
    },
    step: (index, arena) => {
      try {
        step(index, weights, arena);
      } catch (cause) {
        fail(cause);
      }
    },
    end: () => {
      if (threads === 1) return;
      const failed = Atomics.compareExchange(words, CONTROL.stop, STOP.run, STOP.end) === STOP.failed;
      Atomics.add(words, CONTROL.epoch, 1);
      Atomics.notify(words, CONTROL.epoch);
      if (failed) endWorkers(workers);
    },
  };
}
