/**
 * How threads of the program meet, in emitted code: the barrier between steps, the wait for the next inference, the worker's loop.
 *
 * The barrier is the centralised one with a generation in place of a sense (Mellor-Crummey and Scott, 1991): the last to arrive
 * resets the count and changes the generation. Waiting is a bounded spin on an atomic load, then sleep in memory.atomic.wait32,
 * so that more threads than cores still get on. A sleeper counts itself before it compares, and who changes a word looks at the
 * count after: with sequentially consistent atomics one of the two sees the other, so no wake is lost. Thread 0 sleeps only
 * where `mayWait` says so. Names are those of control.ts.
 */
import { CONTROL, type ControlWord, STOP } from './control.ts';
import { FunctionBuilder, type Local } from './function.ts';
import type { ModuleBuilder } from './module.ts';

/** About 30 microseconds of loads: several times the cost of being woken. */
const SPINS = 20_000;
/** A sleeper at a barrier looks up as often as this, in case the thread it waits for is gone. Nanoseconds. */
const BARRIER_SLEEP_NS = 100_000_000n;
const FOREVER = -1n;
const WORD_ALIGNMENT = 2;
const ALL = -1;

const at = (word: ControlWord): [number, number] => [WORD_ALIGNMENT, 4 * CONTROL[word]];
const loadWord = (code: FunctionBuilder, control: Local, word: ControlWord): Local =>
  code.emit('i32.atomic.load', [control], at(word));
/** Adds to a word; the value before. */
const addWord = (code: FunctionBuilder, control: Local, word: ControlWord, by: number): Local =>
  code.emit('i32.atomic.rmw.add', [control, code.constant('i32', by)], at(word));

export interface Sync {
  /** Function index: barrier(control, thread, threads). */
  readonly barrier: number;
  /** Defines worker(control, thread) around run(weights, arena, control, thread, threads). */
  readonly defineWorker: (worker: number, run: number) => void;
}

/** Adds the functions to a module whose memory is shared. */
export function defineSync(module: ModuleBuilder): Sync {
  const awaitGeneration = defineAwait(module, 'generation', BARRIER_SLEEP_NS);
  const awaitEpoch = defineAwait(module, 'epoch', FOREVER);
  return {
    barrier: defineBarrier(module, awaitGeneration),
    defineWorker: (worker, run) => module.define(worker, workerBody(run, awaitEpoch)),
  };
}

function defineBarrier(module: ModuleBuilder, awaitGeneration: number): number {
  const code = new FunctionBuilder(['i32', 'i32', 'i32']);
  const [control, thread, threads] = code.params;
  const one = code.constant('i32', 1);
  code.if(code.emit('i32.gt_u', [threads, one]), () => {
    const generation = loadWord(code, control, 'generation');
    const arrived = code.emit('i32.add', [addWord(code, control, 'arrivals', 1), one]);
    code.if(
      code.emit('i32.eq', [arrived, threads]),
      () => {
        code.effect('i32.atomic.store', [control, code.constant('i32', 0)], at('arrivals'));
        code.effect('i32.atomic.store', [control, code.emit('i32.add', [generation, one])], at('generation'));
        code.if(loadWord(code, control, 'sleepers'), () => {
          code.emit('memory.atomic.notify', [control, code.constant('i32', ALL)], at('generation'));
        });
      },
      () => code.effect('call', [control, thread, generation], [awaitGeneration]),
    );
  });
  const barrier = module.declare('barrier', { params: ['i32', 'i32', 'i32'], results: [] });
  module.define(barrier, code.finish());
  return barrier;
}

/** await_word(control, thread, seen): returns when the word is no longer `seen`; traps when another thread has failed. */
function defineAwait(module: ModuleBuilder, word: ControlWord, timeoutNs: bigint): number {
  const code = new FunctionBuilder(['i32', 'i32', 'i32']);
  const [control, thread, seen] = code.params;
  code.loop(() => {
    const spins = code.local('i32');
    code.move(spins, code.constant('i32', SPINS));
    code.loop(() => {
      code.if(code.emit('i32.ne', [loadWord(code, control, word), seen]), () => code.effect('return'));
      code.emit('i32.sub', [spins, code.constant('i32', 1)], [], spins);
      code.effect('br_if', [spins], [0]);
    });
    const failed = code.emit('i32.eq', [loadWord(code, control, 'stop'), code.constant('i32', STOP.failed)]);
    code.if(failed, () => code.effect('unreachable'));
    const maySleep = code.emit('i32.or', [thread, loadWord(code, control, 'mayWait')]);
    code.if(maySleep, () => {
      addWord(code, control, 'sleepers', 1);
      code.emit(
        'memory.atomic.wait32',
        [
          code.emit('i32.add', [control, code.constant('i32', 4 * CONTROL[word])]),
          seen,
          code.constant('i64', timeoutNs),
        ],
        [WORD_ALIGNMENT, 0],
      );
      addWord(code, control, 'sleepers', -1);
    });
    code.effect('br', [], [0]);
  });
  const index = module.declare(`await_${word}`, { params: ['i32', 'i32', 'i32'], results: [] });
  module.define(index, code.finish());
  return index;
}

/** Waits for the epoch to change, runs, says that it has finished; returns when told to end. */
function workerBody(run: number, awaitEpoch: number): readonly number[] {
  const code = new FunctionBuilder(['i32', 'i32']);
  const [control, thread] = code.params;
  const seen = code.local('i32');
  // The epoch is 0 until the first inference, which may already have been asked for.
  code.move(seen, code.constant('i32', 0));
  code.loop(() => {
    code.effect('call', [control, thread, seen], [awaitEpoch]);
    code.emit('i32.atomic.load', [control], at('epoch'), seen);
    const ended = loadWord(code, control, 'stop');
    code.if(ended, () => code.effect('return'));
    const threads = code.local('i32');
    code.emit('i32.atomic.load', [control], at('threads'), threads);
    const weights = loadWord(code, control, 'weights');
    const arena = loadWord(code, control, 'arena');
    code.effect('call', [weights, arena, control, thread, threads], [run]);
    const finished = code.emit('i32.add', [addWord(code, control, 'finished', 1), code.constant('i32', 2)]);
    // The last worker wakes thread 0, which may be asleep on this word.
    code.if(code.emit('i32.eq', [finished, threads]), () => {
      code.if(loadWord(code, control, 'mayWait'), () => {
        code.emit('memory.atomic.notify', [control, code.constant('i32', ALL)], at('finished'));
      });
    });
    code.effect('br', [], [0]);
  });
  return code.finish();
}
