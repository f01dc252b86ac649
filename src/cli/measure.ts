/**
 * Latency of several runners over the same inputs, in turn, in one process: what slows the machine down for a while slows all of them.
 *
 * Each is warmed up, then the measured time is cut into rounds, and in each round every runner gets its share.
 */
import { now } from '../host/clock.ts';
import type { Runner } from './runner.ts';

export interface MeasureOptions {
  readonly warmupMs: number;
  /** Measured time a runner, in milliseconds; at least one inference each. */
  readonly durationMs: number;
  /** Inferences a runner, instead of a time. */
  readonly iterations?: number;
}

const ROUNDS = 5;
/** Between turns: idle threads of the runner before spin for some milliseconds before they sleep. */
const REST_MS = 20;

/** Milliseconds of each inference, for each runner in the order given. Inputs must be set. */
export async function measureInTurn(runners: readonly Runner[], options: MeasureOptions): Promise<readonly number[][]> {
  const samples = runners.map((): number[] => []);
  for (const runner of runners) await warmUp(runner, options.warmupMs);
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [i, runner] of runners.entries()) {
      await rest();
      await fillShare(runner, samples[i], round / ROUNDS, options);
    }
  }
  return samples;
}

/** Adds inferences until the sample has reached `share` of what is asked for. */
async function fillShare(runner: Runner, sample: number[], share: number, options: MeasureOptions): Promise<void> {
  const { durationMs, iterations } = options;
  let total = sample.reduce((sum, ms) => sum + ms, 0);
  const enough = () =>
    iterations === undefined
      ? sample.length > 0 && total >= durationMs * share
      : sample.length >= Math.ceil(iterations * share);
  while (!enough()) {
    const ms = await timedRun(runner);
    sample.push(ms);
    total += ms;
  }
}

/** Milliseconds of one inference. */
export async function timedRun(runner: Runner): Promise<number> {
  if (runner.timeItself) return runner.timeItself();
  const start = now();
  const pending = runner.run();
  // Awaiting what is no promise would cost a turn of the event loop.
  if (pending !== undefined) await pending;
  return (now() - start) / 1e6;
}

async function warmUp(runner: Runner, warmupMs: number): Promise<void> {
  let spent = 0;
  do spent += await timedRun(runner);
  while (spent < warmupMs);
}

const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, REST_MS));
