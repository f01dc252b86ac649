/**
 * One build under way: times its stages, reports progress, dumps what a stage made where DEBUG or STOP_AFTER ask for it, lets the
 * host breathe between stages, and stops when the caller aborts.
 */
import type { BuildOptions } from './build-options.ts';
import { ModelError } from './core/errors.ts';
import { debugLevel, knob } from './core/knobs.ts';
import { now, yieldToHost } from './host/clock.ts';

/** The stages in order, each with its usual share of the time (for the progress bar) and the DEBUG level that prints what it made. */
const STAGES = {
  read: { share: 0.1, level: 3 },
  infer: { share: 0.02, level: 3 },
  passes: { share: 0.1, level: 3 },
  calibrate: { share: 0.3, level: 3 },
  precision: { share: 0.01, level: 3 },
  fuse: { share: 0.01, level: 2 },
  lower: { share: 0.05, level: 5 },
  attend: { share: 0.01, level: 5 },
  plan: { share: 0.01, level: 2 },
  tune: { share: 0.04, level: 2 },
  pack: { share: 0.27, level: 9 },
  schedule: { share: 0.05, level: 9 },
  emit: { share: 0.35, level: 9 },
  compile: { share: 0.35, level: 9 },
} as const;
export type StageName = keyof typeof STAGES;

export class BuildRun {
  readonly stages: { name: StageName; ms: number }[] = [];
  readonly warnings: string[] = [];
  readonly onWarning: (message: string) => void;
  /** The graph pass to stop after; '' where STOP_AFTER names a stage or nothing. */
  readonly stopPass: string;
  readonly #options: BuildOptions;
  readonly #stopAfter: string;
  #done = 0;

  constructor(options: BuildOptions) {
    this.#options = options;
    this.#stopAfter = knob('STOP_AFTER');
    this.stopPass = this.#stopAfter in STAGES ? '' : this.#stopAfter;
    this.onWarning = (message) => {
      this.warnings.push(message);
      options.onWarning?.(message);
    };
  }

  /** Runs one stage. Throws ModelError `aborted` where the caller's signal fired, or where STOP_AFTER names this stage. */
  async stage<T>(name: StageName, work: () => T | Promise<T>, print?: (made: T) => string): Promise<T> {
    const { onProgress } = this.#options;
    onProgress?.({ stage: name, fraction: this.#done });
    await this.checkpoint(name);
    const start = now();
    const made = await work();
    const ms = (now() - start) / 1e6;
    this.stages.push({ name, ms });
    this.#done = Math.min(1, this.#done + STAGES[name].share);
    onProgress?.({ stage: name, fraction: this.#done });
    if (debugLevel() >= 1) console.error(`[build] ${name} ${ms.toFixed(1)} ms`);
    const stop = this.#stopAfter === name;
    if (print && (stop || debugLevel() >= STAGES[name].level)) console.error(print(made));
    if (stop) throw new ModelError('aborted', `stopped after stage ${name}, as STOP_AFTER says`);
    return made;
  }

  /** Lets the host have its turn. Throws ModelError `aborted` where the caller's signal fired. */
  async checkpoint(stage: StageName): Promise<void> {
    await yieldToHost();
    const { signal } = this.#options;
    if (signal?.aborted)
      throw new ModelError('aborted', `the build was aborted in stage ${stage}`, { cause: signal.reason });
  }
}
