/**
 * The shapes of one context, where an engine leaves sizes open: the table of sizes that kernels read, and what it says of inputs and
 * outputs. Words of sizes that the data decide are a run's: before the first they say that all is as large as it can be.
 *
 * What must hold when a run starts: some profile admits the shapes of all inputs together.
 */
import { ModelError } from '../core/errors.ts';
import { bindDim, dimsEqual, namesIn, printShape, type StaticShape } from '../core/shape.ts';
import type { Binding, Engine, Profile } from '../engine/engine.ts';

const LARGEST = 2 ** 31 - 1;

export class Shapes {
  readonly #engine: Engine;
  readonly #words: Int32Array;
  /** Sizes by name. */
  readonly #sizes = new Map<string, number>();
  /** The names of sizes that the data decide. */
  readonly #decided: ReadonlySet<string>;
  /** Whether a profile is known to admit the present shapes. */
  #admitted = false;

  /** The usual shapes of the first profile. `words` is the context's table. */
  constructor(engine: Engine, words: Int32Array) {
    this.#engine = engine;
    this.#words = words;
    words.fill(LARGEST);
    this.#decided = new Set(engine.sizes?.data.map(({ name }) => name));
    for (const { name, opt } of engine.profiles?.[0]?.inputs ?? []) {
      const binding = engine.inputs.find((b) => b.name === name);
      if (binding) this.#bind(binding, opt);
    }
    this.#fill();
  }

  /** Throws ModelError `input-mismatch` where no profile has the shape, or it contradicts what the model fixes. */
  set(binding: Binding, shape: StaticShape): void {
    const { name } = binding;
    const fits = shape.length === binding.shape.length && shape.every((d) => Number.isInteger(d) && d >= 0);
    const some = this.#engine.profiles?.some((p) => isWithin(p, name, shape)) ?? false;
    if (!fits || !some) throw this.#refused(name, shape);
    this.#bind(binding, shape);
    this.#fill();
    this.#admitted = false;
    const got = this.of(binding);
    if (got.join() !== shape.join())
      throw new ModelError(
        'input-mismatch',
        `input "${name}" cannot be ${printShape(shape)}: the model makes it ${printShape(got)}`,
      );
  }

  /** Throws ModelError `input-mismatch` where no profile admits the shapes together. */
  check(): void {
    if (this.#admitted) return;
    const shapes = this.#engine.inputs.map((b) => [b.name, this.of(b)] as const);
    if (!this.#engine.profiles?.some((p) => shapes.every(([name, shape]) => isWithin(p, name, shape)))) {
      const text = shapes.map(([name, shape]) => `"${name}" ${printShape(shape)}`).join(', ');
      throw new ModelError(
        'input-mismatch',
        `no profile of engine "${this.#engine.name}" has the inputs ${text} together`,
        {
          hint: 'set the shape of each input',
        },
      );
    }
    this.#admitted = true;
  }

  /** The present shape of an input or output. */
  of({ shape, words }: Binding): StaticShape {
    if (!words) return shape;
    return shape.map((size, d) => {
      const word = words[d];
      return word === null || word === undefined ? size : Math.max(0, Math.min(size, this.#words[word]));
    });
  }

  /** Whether the data decide the shape: then it is that of the last run. */
  isDecidedByData({ words }: Binding): boolean {
    const formulas = this.#engine.sizes?.formulas ?? [];
    return words?.some((word) => word !== null && namesIn(formulas[word]).some((n) => this.#decided.has(n))) ?? false;
  }

  /** Open dims that are a name of their own are that size from now on. */
  #bind({ words }: Binding, shape: StaticShape): void {
    words?.forEach((word, d) => {
      const formula = word === null ? undefined : this.#engine.sizes?.formulas[word];
      if (formula === undefined || typeof formula === 'number') return;
      const [term] = formula.terms;
      if (formula.terms.length === 1 && dimsEqual(formula, { terms: [{ ...term, coef: 1 }], constant: 0 }) && !term.of)
        this.#sizes.set(term.name, shape[d]);
    });
  }

  #fill(): void {
    this.#engine.sizes?.formulas.forEach((formula, i) => {
      const value = bindDim(formula, this.#sizes);
      if (typeof value === 'number') this.#words[i] = value;
    });
  }

  #refused(name: string, shape: StaticShape): ModelError {
    const ranges = (this.#engine.profiles ?? []).flatMap(({ inputs, step }) => {
      const range = inputs.find((input) => input.name === name);
      const by = step > 1 ? `, in steps of ${step}` : '';
      return range ? [`${printShape(range.min)} to ${printShape(range.max)}${by}`] : [];
    });
    return new ModelError(
      'input-mismatch',
      `input "${name}" cannot be ${printShape(shape)} in engine "${this.#engine.name}"`,
      {
        hint: `its profiles have ${ranges.join(' and ')}`,
      },
    );
  }
}

function isWithin({ inputs, step }: Profile, name: string, shape: StaticShape): boolean {
  const range = inputs.find((input) => input.name === name);
  if (!range || shape.length !== range.min.length) return false;
  return shape.every(
    (d, i) => range.min[i] <= d && d <= range.max[i] && (range.min[i] === range.max[i] || d % step === 0),
  );
}
