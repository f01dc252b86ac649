/**
 * Decides whether an engine may become machine code, and with which kernels: nothing guards a processor, or the other users of a GPU's
 * context, from a wrong address.
 *
 * In comes an engine from anywhere, out the program to emit. Buffers lie inside their spaces, every access of a kernel inside its buffer
 * (proved, or clamped), packed weights are as long as their tactic reads, and tactics are such as the templates offer here: another
 * machine's tactic gives way to the best predicted one that reads the weights as they are packed. What may still be wrong is the answer.
 */
import { DTYPES } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { type BufferRef, type Engine, type Packing, packedElements, type Step, type Tactic } from '../engine/engine.ts';
import { validateEngine } from '../engine/validate.ts';
import { clampIndices } from '../loop/clamp-indices.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Program, Template } from './target.ts';

/** What `KernelFacts` means by aligned. */
const FACT_ALIGNMENT = 16;

/**
 * `templates` are those of the target, `features` those of this machine; `onWarning` is told where tactics were chosen again. Throws
 * ModelError `engine-parse` where no engine of ours says such a thing, `engine-machine` where another machine's might and nothing here
 * can take its place.
 */
export function admitEngine(
  engine: Engine,
  templates: readonly Template[],
  features: readonly string[],
  onWarning: (message: string) => void = () => {},
): Program {
  validateEngine(engine);
  const kernels = engine.kernels.map((kernel, i) => {
    const safe = clampIndices(kernel);
    if (!safe)
      throw refused(engine, `kernel ${i} (${kernel.name}) may leave its buffers, or has one of 2 GiB and more`);
    return safe;
  });
  const tactics = new Tactics(engine, templates, features);
  const steps = engine.steps.map((step) => {
    const kernel = kernels[step.kernel];
    const tactic = tactics.of(kernel, step);
    const template = templates.find(({ name }) => name === tactic.template) as Template;
    checkPacking(engine, kernel, { ...step, tactic }, template);
    // The code is cut into tiles and given its scratch here, not where the engine was built.
    const tiles = template.tiles(kernel, tactic.params);
    const scratchBytes = template.scratchBytes?.(kernel, tactic.params) ?? 0;
    return { ...step, tactic, tiles, scratchBytes, maxThreads: Math.max(1, Math.min(step.maxThreads, tiles)) };
  });
  if (tactics.replaced > 0) {
    const share = `${tactics.replaced} of ${tactics.decided}`;
    onWarning(
      `engine "${engine.name}" has tactics that this machine does not: ${share} were chosen again, by prediction`,
    );
  }
  return { kernels, steps, arenaBytes: engine.arenaBytes };
}

const refused = (engine: Engine, what: string): ModelError =>
  new ModelError('engine-parse', `engine "${engine.name}" is not valid: ${what}`, { hint: 'build the engine again' });

/** The tactics that steps run by here; equal kernels in equal places are decided once. */
class Tactics {
  /** Tactics that were looked at, and those of them that gave way. */
  decided = 0;
  replaced = 0;
  readonly #engine: Engine;
  readonly #templates: readonly Template[];
  readonly #features: readonly string[];
  readonly #known = new Map<string, Tactic>();
  readonly #packings: ReadonlyMap<number, Packing | undefined>;

  constructor(engine: Engine, templates: readonly Template[], features: readonly string[]) {
    this.#engine = engine;
    this.#templates = templates;
    this.#features = features;
    this.#packings = new Map(engine.weights.map(({ byteOffset, packing }) => [byteOffset, packing]));
  }

  /** The step's own tactic where it is legal here, else the best predicted of those that read the same packed weights. */
  of(kernel: Kernel, step: Step): Tactic {
    const { tactic, buffers } = step;
    const facts = factsOf(this.#engine, kernel, buffers);
    const place = [facts.constant, facts.unaligned, this.#packed(kernel, buffers).values()].map((names) => [...names]);
    // As JSON: names are a stranger's, and may hold whatever would part them.
    const key = JSON.stringify([step.kernel, tactic.template, tactic.params, place], sortedKeys);
    const known = this.#known.get(key);
    if (known) return known;
    this.decided++;
    const chosen = this.#isLegal(kernel, facts, tactic) ? tactic : this.#substitute(kernel, step, facts);
    if (chosen !== tactic) this.replaced++;
    this.#known.set(key, chosen);
    return chosen;
  }

  /** Whether the tactic's template offers it here. */
  #isLegal(kernel: Kernel, facts: KernelFacts, { template, params }: Tactic): boolean {
    const own = this.#templates.find(({ name }) => name === template);
    if (!own || (own.form !== 'any' && own.form !== kernel.form.kind)) return false;
    return own.candidates(kernel, facts, this.#features).some((candidate) => areEqual(candidate, params));
  }

  #candidates(kernel: Kernel, facts: KernelFacts): readonly Tactic[] {
    return this.#templates
      .filter(({ form }) => form === 'any' || form === kernel.form.kind)
      .flatMap((t) =>
        t
          .candidates(kernel, facts, this.#features)
          .map((params) => ({ template: t.name, params, predictedNs: t.predictNs(kernel, params) })),
      );
  }

  #substitute(kernel: Kernel, { tactic, buffers }: Step, facts: KernelFacts): Tactic {
    const have = this.#packed(kernel, buffers);
    const fitting = this.#candidates(kernel, facts).filter(({ template, params }) => {
      const wanted = this.#templates.find(({ name }) => name === template)?.packing?.(kernel, params);
      return [...have].every(([buffer, packing]) => packing === printPacking(wanted?.get(buffer)));
    });
    const [first, ...others] = fitting;
    if (first) return others.reduce((a, b) => (b.predictedNs < a.predictedNs ? b : a), first);
    const what = `${tactic.template} ${JSON.stringify(tactic.params, sortedKeys)}`;
    throw new ModelError(
      'engine-machine',
      `engine "${this.#engine.name}" runs kernel ${kernel.name} by ${what}, which this machine does not have`,
      { hint: 'build the engine on this machine' },
    );
  }

  /** How each constant of the kernel is packed, as text. */
  #packed(kernel: Kernel, buffers: readonly BufferRef[]): ReadonlyMap<string, string> {
    const constants = kernel.buffers.flatMap(({ name }, b): [string, string][] =>
      buffers[b].space === 'weights' ? [[name, printPacking(this.#packings.get(buffers[b].byteOffset))]] : [],
    );
    return new Map(constants);
  }
}

const printPacking = (packing: Packing | undefined): string => (packing ? JSON.stringify(packing, sortedKeys) : '');

/** Of records; the order of keys says nothing. */
const sortedKeys = (_: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;

/** What is true of the buffers where they lie now. */
function factsOf(
  { precision }: Engine,
  kernel: Kernel,
  buffers: readonly BufferRef[],
): KernelFacts & { readonly unaligned: ReadonlySet<string> } {
  const named = (holds: (ref: BufferRef) => boolean): ReadonlySet<string> =>
    new Set(kernel.buffers.filter((_, b) => holds(buffers[b])).map((b) => b.name));
  return {
    constant: named(({ space }) => space === 'weights'),
    tf32: precision === 'tf32',
    unaligned: named(({ byteOffset }) => byteOffset % FACT_ALIGNMENT !== 0),
  };
}

/** By name: an engine's names are any text. */
function areEqual(a: Tactic['params'], b: Tactic['params']): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && a[name] === b[name]);
}

function checkPacking(engine: Engine, kernel: Kernel, { tactic, buffers }: Step, template: Template): void {
  for (const [name, packing] of template.packing?.(kernel, tactic.params) ?? []) {
    const b = kernel.buffers.findIndex((buffer) => buffer.name === name);
    if (buffers[b].bytes < DTYPES[kernel.buffers[b].dtype].bytes * packedElements(packing))
      throw refused(engine, `weight ${name} of kernel ${kernel.name} is shorter than its packing`);
  }
}
