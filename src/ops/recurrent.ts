/**
 * RNN, GRU and LSTM, written out over the steps of their sequence. What every step needs of the input, x · Wᵀ + bias, is one product for
 * all steps; a step is then one product with the state, h · Rᵀ, and elementwise work.
 *
 *     RNN    h' = f(x·W + h·R + b)
 *     GRU    z, r = f(…)    n = g(x·Wn + (r ⊙ h)·Rn + b)   or, linear_before_reset,  g(x·Wn + b + r ⊙ (h·Rn + bR))    h' = (1−z) ⊙ n + z ⊙ h
 *     LSTM   i = f(… + Pi ⊙ c)   k = f(… + Pf ⊙ c)   c' = k ⊙ c + i ⊙ g(…)   o = f(… + Po ⊙ c')   h' = o ⊙ h(c')
 *
 * Gates lie one behind the other in W, R and B: GRU z, r, n; LSTM i, o, k, g. Steps beyond a sequence's length leave its state as it is
 * and give 0. https://onnx.ai/onnx/operators/onnx__LSTM.html
 */
import { type Dim, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite, type Expansion } from './composite.ts';
import { checkFloatInputs } from './dims.ts';
import { type Activation, activate, isActivation, parameterCount } from './named-activation.ts';
import type { NodeWriter } from './node-writer.ts';
import { type AttrsOf, bool, float, floats, int, type Op, type OpCase, oneOf, strings } from './op.ts';

const ATTRS = {
  hidden_size: int.optional,
  direction: oneOf('forward', 'reverse', 'bidirectional'),
  activations: strings.optional,
  activation_alpha: floats.optional,
  activation_beta: floats.optional,
  clip: float.optional,
  layout: int(0),
} as const;
type RecurrentAttrs = AttrsOf<typeof ATTRS>;

/** What a step is computed from. */
interface Step {
  readonly w: NodeWriter;
  /** x · Wᵀ + bias of all gates: [batch, gates · size]. */
  readonly fromInput: string;
  /** [gates · size, size]. */
  readonly recurrent: string;
  /** The bias that is added to h · Rᵀ where that is not summed with fromInput: [gates · size]. */
  readonly recurrentBias: string | undefined;
  /** The state: h, and c where the cell has one. Each [batch, size]. */
  readonly state: readonly string[];
  /** Weights of c in the gates, one behind the other: [3 · size]. */
  readonly peepholes: string | undefined;
  /** Activation i of x, clipped before. */
  f(i: number, x: string): string;
}

/** A kind of cell. */
interface Cell {
  readonly gates: number;
  readonly activations: readonly string[];
  /** How many tensors its state has. */
  readonly states: number;
  step(step: Step): readonly string[];
}

const gate = (w: NodeWriter, x: string, i: number, size: number): string => w.slice(x, 1, i * size, (i + 1) * size);
const rows = (w: NodeWriter, x: string, i: number, size: number): string => w.slice(x, 0, i * size, (i + 1) * size);
/** addend + h · Rᵀ */
const withState = (w: NodeWriter, h: string, recurrent: string, addend: string): string =>
  w.node('Gemm', [h, recurrent, addend], { transB: true });
const sizeOf = (w: NodeWriter, h: string): number => w.type(h).shape[1];

const rnnCell: Cell = {
  gates: 1,
  activations: ['Tanh'],
  states: 1,
  step: ({ w, fromInput, recurrent, state: [h], f }) => [f(0, withState(w, h, recurrent, fromInput))],
};

const gruCell: Cell = {
  gates: 3,
  activations: ['Sigmoid', 'Tanh'],
  states: 1,
  step({ w, fromInput, recurrent, recurrentBias, state: [h], f }) {
    const size = sizeOf(w, h);
    const both = withState(w, h, rows(w, recurrent, 0, 2 * size), w.slice(fromInput, 1, 0, 2 * size));
    const z = f(0, gate(w, both, 0, size));
    const r = f(0, gate(w, both, 1, size));
    const own = rows(w, recurrent, 2, size);
    const fromX = gate(w, fromInput, 2, size);
    const n = recurrentBias
      ? f(1, w.add(fromX, w.mul(r, withState(w, h, own, rows(w, recurrentBias, 2, size)))))
      : f(1, withState(w, w.mul(r, h), own, fromX));
    // (1 − z) ⊙ n + z ⊙ h
    return [w.add(n, w.mul(z, w.sub(h, n)))];
  },
};

const lstmCell = (inputForget: boolean): Cell => ({
  gates: 4,
  activations: ['Sigmoid', 'Tanh', 'Tanh'],
  states: 2,
  step({ w, fromInput, recurrent, state: [h, c], peepholes, f }) {
    const size = sizeOf(w, h);
    const all = withState(w, h, recurrent, fromInput);
    const seeing = (i: number, peephole: number, cell: string): string => {
      const x = gate(w, all, i, size);
      return peepholes ? w.add(x, w.mul(rows(w, peepholes, peephole, size), cell)) : x;
    };
    const input = f(0, seeing(0, 0, c));
    const keep = inputForget ? w.sub(w.scalar(w.type(input).dtype, 1), input) : f(0, seeing(2, 2, c));
    const next = w.add(w.mul(keep, c), w.mul(input, f(1, gate(w, all, 3, size))));
    const output = f(0, seeing(1, 1, next));
    return [w.mul(output, f(2, next)), next];
  },
});

/** Inputs by number. */
const X = 0;
const W = 1;
const R = 2;
const B = 3;
const LENGTHS = 4;
const H = 5;
const C = 6;
const P = 7;

const directionsOf = ({ direction }: RecurrentAttrs): number => (direction === 'bidirectional' ? 2 : 1);

function inferRecurrent(ctx: InferContext<RecurrentAttrs>, cell: Cell): { dtype: 'f32'; shape: Shape }[] {
  const { attrs } = ctx;
  checkFloatInputs(ctx, [X, W, R, B, H, C, P]);
  const x = ctx.input(X);
  const r = ctx.input(R).shape;
  const directions = directionsOf(attrs);
  if (x.shape.length !== 3) ctx.fail(`the input has rank ${x.shape.length}, expected 3`);
  const size = attrs.hidden_size ?? r[2];
  const last = x.shape[2];
  checkShape(ctx, W, [directions, typeof size === 'number' ? cell.gates * size : undefined, last]);
  checkShape(ctx, R, [directions, typeof size === 'number' ? cell.gates * size : undefined, size]);
  checkShape(ctx, B, [directions, typeof size === 'number' ? 2 * cell.gates * size : undefined]);
  checkShape(ctx, P, [directions, typeof size === 'number' ? 3 * size : undefined]);
  const [length, batch] = attrs.layout === 0 ? x.shape : [x.shape[1], x.shape[0]];
  const state = attrs.layout === 0 ? [directions, batch, size] : [batch, directions, size];
  checkShape(ctx, H, state);
  checkShape(ctx, C, state);
  checkShape(ctx, LENGTHS, [batch]);
  const names = attrs.activations;
  const wanted = cell.activations.length * directions;
  if (names && names.length !== wanted) ctx.fail(`activations has ${names.length} names, expected ${wanted}`);
  const unknown = names?.find((name) => !isActivation(name));
  if (unknown !== undefined) ctx.fail(`activation "${unknown}" is not known`);
  const all: Shape = attrs.layout === 0 ? [length, directions, batch, size] : [batch, length, directions, size];
  return [all, state, state].map((shape) => ({ dtype: x.dtype as 'f32', shape }));
}

/** Throws through ctx.fail unless input i, where there is one, has this shape; undefined dims may be anything. */
function checkShape(ctx: InferContext<unknown>, i: number, wanted: readonly (Dim | undefined)[]): void {
  const shape = ctx.inputs[i]?.shape;
  if (!shape) return;
  const fits =
    shape.length === wanted.length &&
    shape.every((d, k) => typeof d !== 'number' || typeof wanted[k] !== 'number' || d === wanted[k]);
  if (!fits) ctx.fail(`input ${i} is ${printShape(shape)}, expected ${printShape(wanted.map((d) => d ?? -1))}`);
}

/** The activations of each direction, with their parameters taken in order from the two lists. */
function activationsOf(attrs: RecurrentAttrs, cell: Cell): readonly (readonly Activation[])[] {
  const directions = directionsOf(attrs);
  const names = attrs.activations ?? Array.from({ length: directions }, () => cell.activations).flat();
  const alphas = [...(attrs.activation_alpha ?? [])];
  const betas = [...(attrs.activation_beta ?? [])];
  const all = names.map((name): Activation => {
    const count = parameterCount(name);
    return { name, parameters: [count > 0 ? alphas.shift() : undefined, count > 1 ? betas.shift() : undefined] };
  });
  const each = cell.activations.length;
  return Array.from({ length: directions }, (_, d) => all.slice(d * each, (d + 1) * each));
}

/** The results of one direction: h after each step in the order of the sequence, and the last state. */
interface Direction {
  readonly steps: readonly string[];
  readonly state: readonly string[];
}

function writeRecurrent(x: Expansion<RecurrentAttrs>, cell: Cell, linearBeforeReset = false): readonly string[] {
  const { w, attrs, node } = x;
  const sequence = attrs.layout === 0 ? x.input(X) : w.transpose(x.input(X), [1, 0, 2]);
  const activations = activationsOf(attrs, cell);
  const runs = activations.map((own, d) => {
    const reverse = attrs.direction === 'reverse' || d === 1;
    return runDirection(x, cell, { d, sequence, activations: own, reverse, linearBeforeReset });
  });
  const stateOf = (i: number): string => {
    const [batch, size] = w.type(runs[0].state[i]).shape;
    const together = w.concat(
      runs.map((run) => w.reshape(run.state[i], [1, batch, size])),
      0,
    );
    return attrs.layout === 0 ? together : w.transpose(together, [1, 0, 2]);
  };
  const wanted = [() => allSteps(w, runs, attrs.layout), () => stateOf(0), () => stateOf(1)];
  return node.outputs.map((_, i) => (x.wants(i) ? wanted[i]() : ''));
}

/** [length, directions, batch, size], or with the batch first. */
function allSteps(w: NodeWriter, runs: readonly Direction[], layout: number): string {
  const [batch, size] = w.type(runs[0].state[0]).shape;
  const each = runs.map(({ steps }) =>
    w.concat(
      steps.map((h) => w.reshape(h, [1, 1, batch, size])),
      0,
    ),
  );
  const y = w.concat(each, 1);
  return layout === 0 ? y : w.transpose(y, [2, 0, 1, 3]);
}

interface DirectionOptions {
  readonly d: number;
  /** [length, batch, inputs]. */
  readonly sequence: string;
  readonly activations: readonly Activation[];
  readonly reverse: boolean;
  readonly linearBeforeReset: boolean;
}

function runDirection(x: Expansion<RecurrentAttrs>, cell: Cell, options: DirectionOptions): Direction {
  const { w, attrs } = x;
  const { d, sequence, activations, reverse, linearBeforeReset } = options;
  const { dtype, shape } = w.type(sequence);
  const [length, batch, width] = shape;
  const size = x.type(R).shape[2];
  /** The part of an input for this direction. */
  const own = (i: number): string | undefined => {
    if (!x.types[i]) return undefined;
    const part = w.slice(x.input(i), 0, d, d + 1);
    return w.reshape(part, w.type(part).shape.slice(1));
  };
  const initial = (i: number): string => {
    if (!x.types[i]) return w.expand(w.scalar(dtype, 0), [batch, size]);
    return w.reshape(w.slice(x.input(i), attrs.layout === 0 ? 0 : 1, d, d + 1), [batch, size]);
  };
  const bias = own(B);
  const count = cell.gates * size;
  const [inputBias, recurrentBias] = bias ? [w.slice(bias, 0, 0, count), w.slice(bias, 0, count, 2 * count)] : [];
  const flat = w.reshape(sequence, [length * batch, width]);
  const summed = inputBias && recurrentBias ? sumOfBiases(w, inputBias, recurrentBias, size, linearBeforeReset) : '';
  const fromInputs = w.node('Gemm', [flat, own(W) as string, summed], { transB: true });

  const peepholes = own(P);
  const zeros = (n: number): string => w.expand(w.scalar(dtype, 0), [n]);
  const apart = linearBeforeReset ? (recurrentBias ?? zeros(count)) : undefined;
  const f = (i: number, v: string): string => {
    const bound = attrs.clip;
    const limits = bound ? [w.scalar(dtype, -bound), w.scalar(dtype, bound)] : undefined;
    return activate(w, limits ? w.node('Clip', [v, ...limits]) : v, activations[i]);
  };
  const recurrent = own(R) as string;
  const steps: string[] = new Array(length);
  let state: readonly string[] = [H, C].slice(0, cell.states).map(initial);
  for (let i = 0; i < length; i++) {
    const t = reverse ? length - 1 - i : i;
    const fromInput = w.slice(fromInputs, 0, t * batch, (t + 1) * batch);
    const next = cell.step({ w, fromInput, recurrent, recurrentBias: apart, state, peepholes, f });
    const running = stillRunning(x, t, length, batch);
    steps[t] = running ? w.node('Where', [running, next[0], w.scalar(dtype, 0)]) : next[0];
    const before = state;
    state = running ? next.map((value, k) => w.node('Where', [running, value, before[k]])) : next;
  }
  return { steps, state };
}

/** The sum of both biases; the last gate's recurrent bias stays out where it is added before the reset. */
function sumOfBiases(
  w: NodeWriter,
  input: string,
  recurrent: string,
  size: number,
  linearBeforeReset: boolean,
): string {
  if (!linearBeforeReset) return w.add(input, recurrent);
  const gates = w.add(w.slice(input, 0, 0, 2 * size), w.slice(recurrent, 0, 0, 2 * size));
  return w.concat([gates, w.slice(input, 0, 2 * size, 3 * size)], 0);
}

/** Whether step t is inside each sequence, bool [batch, 1]; undefined where it is known to be inside all. */
function stillRunning(x: Expansion<RecurrentAttrs>, t: number, length: number, batch: number): string | undefined {
  const { w } = x;
  const lengths = x.types[LENGTHS];
  if (!lengths) return undefined;
  const known = w.known(x.input(LENGTHS));
  if (known && Array.from(toNumbers(known)).every((n) => n >= length)) return undefined;
  const step = w.constant(fromNumbers(lengths.dtype, [], [t]));
  return w.node('Less', [step, w.reshape(x.input(LENGTHS), [batch, 1])]);
}

const rnn = defineComposite({
  name: 'RNN',
  onnx: { since: 7 },
  attrs: ATTRS,
  inputs: [3, 6],
  outputs: 2,
  rounding: 'once',
  infer: (ctx) => inferRecurrent(ctx, rnnCell).slice(0, ctx.outputCount),
  write: (x) => writeRecurrent(x, rnnCell),
  cases: [
    recurrentCase('forward', 1, {}),
    recurrentCase('both directions', 1, { attrs: { direction: 'bidirectional' }, bias: true, state: true }),
    recurrentCase('reverse, lengths', 1, { attrs: { direction: 'reverse' }, lengths: [2, 4], bias: true }),
    recurrentCase('activation with a parameter, clip', 1, {
      attrs: { activations: ['LeakyRelu'], activation_alpha: [0.25], clip: 0.5 },
    }),
  ],
});

const gru = defineComposite({
  name: 'GRU',
  onnx: { since: 7 },
  attrs: { ...ATTRS, linear_before_reset: bool(false) },
  inputs: [3, 6],
  outputs: 2,
  rounding: 'once',
  infer: (ctx) => inferRecurrent(ctx, gruCell).slice(0, ctx.outputCount),
  write: (x) => writeRecurrent(x, gruCell, x.attrs.linear_before_reset),
  cases: [
    recurrentCase('forward', 3, {}),
    recurrentCase('linear before reset', 3, { attrs: { linear_before_reset: true }, bias: true, state: true }),
    recurrentCase('linear before reset without bias', 3, { attrs: { linear_before_reset: true } }),
    recurrentCase('both directions, lengths', 3, {
      attrs: { direction: 'bidirectional', linear_before_reset: true },
      lengths: [4, 1],
      bias: true,
      state: true,
    }),
    recurrentCase('activations', 3, {
      attrs: { activations: ['HardSigmoid', 'Softsign'], activation_alpha: [0.3], activation_beta: [0.4], clip: 1 },
      bias: true,
    }),
  ],
});

const lstm = defineComposite({
  name: 'LSTM',
  onnx: { since: 7 },
  attrs: { ...ATTRS, input_forget: bool(false) },
  inputs: [3, 8],
  outputs: 3,
  rounding: 'once',
  infer: (ctx) => inferRecurrent(ctx, lstmCell(false)).slice(0, ctx.outputCount),
  write: (x) => writeRecurrent(x, lstmCell(x.attrs.input_forget)),
  cases: [
    recurrentCase('forward', 4, {}),
    recurrentCase('both directions, state', 4, { attrs: { direction: 'bidirectional' }, bias: true, state: true }),
    recurrentCase('reverse, lengths', 4, { attrs: { direction: 'reverse' }, bias: true, lengths: [3, 2], state: true }),
    recurrentCase('peepholes', 4, { bias: true, peepholes: true, state: true }),
    recurrentCase('input_forget, clip', 4, { attrs: { input_forget: true, clip: 0.7 }, bias: true }),
    recurrentCase('activations of both directions', 4, {
      attrs: {
        direction: 'bidirectional',
        activations: ['HardSigmoid', 'ScaledTanh', 'Relu', 'Sigmoid', 'Affine', 'Tanh'],
        activation_alpha: [0.3, 0.5, 1.5],
        activation_beta: [0.4, 2, 0.25],
      },
      bias: true,
    }),
  ],
});

interface CaseOptions {
  readonly attrs?: OpCase['attrs'];
  readonly bias?: boolean;
  readonly lengths?: readonly number[];
  readonly state?: boolean;
  readonly peepholes?: boolean;
}

/** Sequences of 4 steps, 2 of them, 3 inputs, 5 hidden elements. */
function recurrentCase(name: string, gates: number, options: CaseOptions): OpCase {
  const { attrs = {}, bias = false, lengths, state = false, peepholes = false } = options;
  const [length, batch, width, size] = [4, 2, 3, 5];
  const d = attrs.direction === 'bidirectional' ? 2 : 1;
  const f32 = (...shape: number[]) => ({ dtype: 'f32', shape, range: [-1, 1] }) as const;
  const hasCell = gates === 4;
  return {
    name,
    attrs: { hidden_size: size, ...attrs },
    outputs: hasCell ? 3 : 2,
    inputs: [
      f32(length, batch, width),
      f32(d, gates * size, width),
      f32(d, gates * size, size),
      bias ? f32(d, 2 * gates * size) : undefined,
      lengths && fromNumbers('i32', [batch], lengths),
      ...(state ? [f32(d, batch, size), ...(hasCell ? [f32(d, batch, size)] : [])] : []),
      ...(peepholes ? [f32(d, 3 * size)] : []),
    ],
  };
}

export const RECURRENT_OPS: readonly Op[] = [rnn, gru, lstm];
