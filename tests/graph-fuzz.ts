/**
 * Random graphs over all operators: nodes are drawn from the operators' own cases, and read what other nodes made, cut and repeated to
 * the shape and held within the range that the case asks for. Every choice comes from a list of numbers, so that a failing graph shrinks.
 */
import fc from 'fast-check';
import { type DType, isBigInt, isFloat } from '../src/core/dtype.ts';
import { elements, isStatic } from '../src/core/shape.ts';
import {
  encodeScalar,
  fromNumbers,
  printType,
  scalarTensor,
  type Tensor,
  type TensorType,
  toNumbers,
} from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import { PASSES, runPass } from '../src/passes/pipeline.ts';
import { defaultRange } from './op-cases.ts';
import { hash, randomTensor } from './random.ts';

type CaseInput = OpCase['inputs'][number];
type Drawn = Extract<CaseInput, { readonly range?: readonly [number, number] }>;

/** A case larger than this would be most of the work. */
const MOST_ELEMENTS = 4096;

const isDrawn = (input: CaseInput): input is Drawn =>
  input !== undefined && !('constant' in input) && !('data' in input);
const sizeOf = (input: CaseInput): number =>
  input === undefined ? 0 : elements('constant' in input ? input.constant.shape : input.shape);

/** Cases whose node has outputs of known sizes and the same elements at each call. */
const POOL: readonly { readonly op: Op; readonly opCase: OpCase }[] = [...OPS.values()]
  .filter((op) => !op.traits.impure && (op.lower !== undefined || op.expand !== undefined))
  .flatMap((op) => op.cases.map((opCase) => ({ op, opCase })))
  .filter(({ opCase }) => opCase.inputs.every((input) => sizeOf(input) <= MOST_ELEMENTS));
const OPERATORS = [...new Set(POOL.map(({ op }) => op))];

export interface FuzzGraph {
  readonly graph: Graph;
  readonly inputs: ReadonlyMap<string, Tensor>;
}

class Grower {
  readonly b: GraphBuilder = graphBuilder('fuzz', OPS);
  readonly inputs = new Map<string, Tensor>();
  /** Values that nodes may read, the newest last. */
  readonly #values: string[] = [];
  readonly #read = new Set<string>();

  /** Adds a node of the case; `choice` decides where its inputs come from. */
  add({ op, opCase }: (typeof POOL)[number], choice: number): void {
    const inputs = opCase.inputs.map((input, i) => this.#inputOf(input, Math.floor(hash(choice, i) * 2 ** 20)));
    const outputs = Array.from({ length: opCase.outputs ?? 1 }, () => this.b.fresh('v'));
    this.b.node(op.key, inputs, { attrs: opCase.attrs ?? {}, outputs });
    for (const name of outputs) if (isStatic(this.b.type(name).shape)) this.#values.push(name);
  }

  #inputOf(input: CaseInput, choice: number): string {
    if (input === undefined) return '';
    if ('constant' in input) return this.b.constant(input.constant);
    if (!isDrawn(input)) return choice % 2 ? this.b.constant(input) : this.#input(input);
    const sources = this.#values.filter((name) => this.b.type(name).dtype === input.dtype);
    const source = sources[Math.max(0, sources.length - 1 - (choice % 5))];
    if (choice % 8 === 0 || source === undefined) return this.#input(drawn(input, choice));
    return this.#adapted(source, input) ?? this.#input(drawn(input, choice));
  }

  #input(value: Tensor): string {
    const name = this.b.input(this.b.fresh('x'), value.dtype, value.shape);
    this.inputs.set(name, value);
    return name;
  }

  /** A value in the shape and range that a case asks for. */
  #adapted(source: string, { dtype, shape, range }: Drawn): string | undefined {
    const have = elements((this.b.type(source) as TensorType).shape);
    const want = elements(shape);
    if (have === 0 && want > 0) return undefined;
    this.#read.add(source);
    let value = this.#node('Reshape', source, this.#ints([-1]));
    if (have < want) value = this.#node('Tile', value, this.#ints([Math.ceil(want / have)]));
    if (have !== want) value = this.#node('Slice', value, this.#ints([0]), this.#ints([want]));
    if (want > 0) value = this.#node('Reshape', value, this.#ints(shape));
    else value = this.#node('Reshape', value, this.#ints(shape), true);
    if (dtype === 'bool') return value;
    const [low, high] = range ?? defaultRange(dtype);
    const bound = (x: number): string =>
      this.b.constant(scalarTensor(dtype, isBigInt(dtype) ? BigInt(Math.trunc(x)) : x));
    return this.#node('Max', this.#node('Min', value, bound(high)), bound(low));
  }

  #ints(values: readonly number[]): string {
    return this.b.constant(fromNumbers('i64', [values.length], values));
  }

  #node(op: string, ...args: (string | boolean)[]): string {
    const attrs = args.includes(true) ? { attrs: { allowzero: true } } : {};
    return this.b.node(
      op,
      args.filter((x) => typeof x === 'string'),
      attrs,
    )[0];
  }

  /** All that nothing reads, and one value within. */
  finish(choice: number): FuzzGraph {
    const ends = this.#values.filter((name) => !this.#read.has(name));
    const within = this.#values[choice % this.#values.length];
    for (const name of new Set([...ends, within])) this.b.output(name);
    return { graph: this.b.finish(), inputs: this.inputs };
  }
}

function drawn({ dtype, shape, range }: Drawn, seed: number): Tensor {
  const [low, high] = range ?? defaultRange(dtype);
  return randomTensor(dtype, shape, seed, [low, range && !isFloat(dtype) ? high + 1 : high]);
}

/** Graphs of up to `most` nodes beside those that adapt shapes. An operator is drawn first, so that many cases make it no likelier. */
export const fuzzGraph = (most: number): fc.Arbitrary<FuzzGraph> =>
  fc
    .array(fc.tuple(fc.nat(OPERATORS.length - 1), fc.nat(999), fc.nat(2 ** 20)), { minLength: 1, maxLength: most })
    .map((picks) => {
      const grower = new Grower();
      for (const [operator, number, choice] of picks) {
        const cases = POOL.filter(({ op }) => op === OPERATORS[operator]);
        grower.add(cases[number % cases.length], choice);
      }
      return grower.finish(picks[0][2]);
    });

/** Relative noise that a machine's rounding may add to each value; integers and exact small numbers have none. */
const NOISE: { readonly [D in DType]?: number } = { f32: 1e-6, f64: 1e-14, f16: 1e-3, bf16: 8e-3 };

/** The graph with operators that are written with others written so: rounding inside of them is seen too. */
export const expanded = ({ graph, inputs }: FuzzGraph): FuzzGraph => {
  const pass = PASSES.find(({ name }) => name === 'expand-ops')!;
  return { inputs, graph: runPass(pass, graph, { ops: OPS, computes: new Set(), onWarning: () => {} }) };
};

/**
 * The outputs of an expanded graph where every float that a node computes is off by a little: how well the graph determines its own
 * answer.
 */
export function evalWithNoise({ graph, inputs }: FuzzGraph, seed: number): Map<string, Tensor> {
  const values = new Map([...graph.constants, ...inputs]);
  for (const [n, node] of graph.nodes.entries()) {
    const op = OPS.get(node.op)!;
    const args = node.inputs.map((name) => (name === '' ? undefined : values.get(name)!));
    const types = node.outputs.map((name) => graph.values.get(name) as TensorType);
    for (const [i, result] of op.eval(args, node.attrs, types).entries()) {
      values.set(node.outputs[i], withNoise(result, seed * 7919 + n * 31 + i));
    }
  }
  return new Map(graph.outputs.map((name) => [name, values.get(name)!]));
}

function withNoise(t: Tensor, seed: number): Tensor {
  const noise = NOISE[t.dtype];
  if (noise === undefined) return t;
  const numbers = toNumbers(t);
  const data = t.data.slice();
  for (let i = 0; i < numbers.length; i++) {
    const x = numbers[i];
    if (!Number.isFinite(x) || (Number.isInteger(x) && Math.abs(x) < 1 << 11)) continue;
    data[i] = encodeScalar(t.dtype, x * (1 + noise * (2 * hash(seed, i) - 1))) as never;
  }
  return { ...t, data };
}

/**
 * Relative to the largest element, or to 1. Normalising a row whose elements are all equal multiplies the rounding of their mean by
 * 1/sqrt(epsilon), about 300, in one operator: noise behind operators does not show that.
 */
const TOLERANCE: { readonly [D in DType]?: number } = { f32: 1e-4, f64: 1e-4, f16: 1e-2, bf16: 8e-2 };

/**
 * What is wrong with `actual`, give or take the tolerance of the dtype and ten times the spread of the `noisy` results: the number of
 * elements and the first of them; undefined where nothing is. An element whose noisy results are not all finite, or for integers not all
 * equal, is not determined and passes.
 */
export function disagreement(actual: Tensor, expected: Tensor, noisy: readonly Tensor[]): string | undefined {
  if (actual.dtype !== expected.dtype || actual.shape.join() !== expected.shape.join())
    return `${printType(actual)}, expected ${printType(expected)}`;
  const [a, e] = [toNumbers(actual), toNumbers(expected)];
  const runs = noisy.map(toNumbers);
  const base = TOLERANCE[expected.dtype] ?? 0;
  let scale = 1;
  for (let i = 0; i < e.length; i++) if (Number.isFinite(e[i])) scale = Math.max(scale, Math.abs(e[i]));
  const wrong: number[] = [];
  for (let i = 0; i < e.length; i++) {
    if (Object.is(a[i], e[i]) || a[i] === e[i]) continue;
    let spread = 0;
    for (const run of runs) spread = Math.max(spread, Math.abs(run[i] - e[i]));
    if (!Number.isFinite(spread) && runs.some((run) => !Object.is(run[i], e[i]))) continue;
    if (base === 0 && spread > 0) continue;
    if (!(Math.abs(a[i] - e[i]) <= base * scale + 10 * spread)) wrong.push(i);
  }
  const [first] = wrong;
  if (first === undefined) return undefined;
  return `${wrong.length} of ${e.length} elements, element ${first} is ${a[first]}, expected ${e[first]}`;
}
