/**
 * Measured times of tactics, kept between builds: nanoseconds by machine, kernel, what is constant in it, and tactic.
 *
 * A file of it is JSON with sorted keys: to read, to diff, to merge, to carry along. The same cache gives the same engine.
 */
import { hex } from '../core/bytes.ts';
import { ModelError } from '../core/errors.ts';
import { sha256 } from '../core/hash.ts';
import type { Tactic } from '../engine/engine.ts';
import { kernelKey } from '../loop/print.ts';
import type { KernelFacts } from '../targets/target.ts';
import type { TuningTask } from './choose.ts';
import { printParams } from './params.ts';

const FORMAT = 'hotrod timing cache 1';

export class TimingCache {
  readonly #ns: Map<string, number>;

  constructor(entries: Iterable<readonly [string, number]> = []) {
    this.#ns = new Map(entries);
  }

  get size(): number {
    return this.#ns.size;
  }

  get(key: string): number | undefined {
    return this.#ns.get(key);
  }

  set(key: string, ns: number): void {
    this.#ns.set(key, ns);
  }

  /** Takes what `other` has and this one lacks. */
  merge(other: TimingCache): void {
    for (const [key, ns] of other.#ns) if (!this.#ns.has(key)) this.#ns.set(key, ns);
  }

  /** The file's text. */
  print(): string {
    const times = Object.fromEntries([...this.#ns].sort(([a], [b]) => (a < b ? -1 : 1)));
    return `${JSON.stringify({ format: FORMAT, times }, undefined, 1)}\n`;
  }

  /** Reads what `print` wrote. Throws ModelError `option-invalid` for anything else. */
  static parse(text: string): TimingCache {
    const fail = (why: string): never => {
      throw new ModelError('option-invalid', `this is no timing cache: ${why}`, {
        hint: 'give a file that an earlier build wrote, or the name of a new one',
      });
    };
    let file: { format?: unknown; times?: unknown } | null = null;
    try {
      file = JSON.parse(text);
    } catch {
      fail('it is not JSON');
    }
    if (typeof file !== 'object' || file === null || file.format !== FORMAT) fail(`its format is not "${FORMAT}"`);
    const times = file?.times;
    if (typeof times !== 'object' || times === null) return fail('it has no times');
    const entries = Object.entries(times).map(([key, ns]): [string, number] =>
      typeof ns === 'number' && ns > 0 ? [key, ns] : fail(`the time of "${key}" is ${JSON.stringify(ns)}`),
    );
    return new TimingCache(entries);
  }
}

/** Tells facts apart. */
export const factsKey = ({ constant, tf32, unaligned }: KernelFacts): string =>
  [[...constant].join(), tf32 ? 'tf32' : '', [...(unaligned ?? [])].join()].join(' ').trim();

/** The name of a measurement: machine, kernel by its text, constant buffers, tactic. */
export function timingKey(machine: string, { kernel, facts }: TuningTask, { template, params }: Tactic): string {
  const digest = sha256(new TextEncoder().encode(`${kernelKey(kernel)}\n${factsKey(facts)}`));
  return `${machine} ${kernel.name} ${hex(digest.subarray(0, 12))} ${template} ${printParams(params)}`.trimEnd();
}
