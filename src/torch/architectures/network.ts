/**
 * A network written layer by layer as its PyTorch module is: each layer is named by its module path, takes its weights from the state
 * dict by that name, states the shapes that they must have, and adds its nodes through the network-definition API.
 *
 * Without a builder the same definition only compares names and shapes: that is how a checkpoint is recognised, and how everything that
 * does not fit is found at once. Values are then ''.
 */
import { Bug } from '../../core/errors.ts';
import { printShape, type StaticShape } from '../../core/shape.ts';
import { fromNumbers, printType, scalarTensor, type Tensor, toNumbers } from '../../core/tensor.ts';
import type { GraphBuilder } from '../../graph/build.ts';
import type { Attrs } from '../../graph/ir.ts';
import type { StateDict } from '../state-dict.ts';

/** How the keys of a state dict differ from what an architecture wants. */
export interface Misfits {
  readonly missing: readonly string[];
  readonly wrong: readonly string[];
  readonly extra: readonly string[];
}

export interface ConvOptions {
  /** One number for both sides. */
  readonly kernel: number;
  readonly stride?: number;
  readonly padding?: number;
  readonly groups?: number;
  readonly bias?: boolean;
}
interface PoolOptions {
  readonly kernel: number;
  readonly stride: number;
  readonly padding?: number;
  readonly ceil?: boolean;
}
export type Activation = 'relu' | 'relu6' | 'silu' | 'hardswish' | 'hardsigmoid' | 'sigmoid' | 'gelu' | 'none';

/** Counters of batch normalisation, which only training needs. */
const COUNTER = /(^|\.)num_batches_tracked$/;

export class Network {
  readonly #weights: StateDict;
  readonly #builder: GraphBuilder | undefined;
  readonly #missing: string[] = [];
  readonly #wrong: string[] = [];
  readonly #wanted = new Set<string>();
  readonly #scalars = new Map<string, string>();

  constructor(weights: StateDict, builder?: GraphBuilder) {
    this.#weights = weights;
    this.#builder = builder;
  }

  misfits(): Misfits {
    const extra = [...this.#weights].filter(([key]) => !this.#wanted.has(key) && !COUNTER.test(key));
    return {
      missing: this.#missing,
      wrong: this.#wrong,
      extra: extra.map(([key, tensor]) => `${key} ${printType(tensor)}`),
    };
  }

  /** Rows of a weight, for sizes that differ from one training to the next; `usual` where it is missing. */
  rows(key: string, usual: number): number {
    return this.#weights.get(key)?.shape[0] ?? usual;
  }
  /** The dims of a weight; undefined where it is missing. */
  shapeOf(key: string): StaticShape | undefined {
    return this.#weights.get(key)?.shape;
  }

  param(key: string, shape: StaticShape): string {
    this.#wanted.add(key);
    const tensor = this.#weights.get(key);
    if (tensor === undefined) this.#missing.push(`${key} ${printShape(shape)}`);
    else if (tensor.shape.join() !== shape.join()) {
      this.#wrong.push(`${key} is ${printShape(tensor.shape)}, expected ${printShape(shape)}`);
    }
    if (!this.#builder) return '';
    if (tensor === undefined) throw new Bug('network-weight', `weight "${key}" was not checked`);
    return this.#builder.constant(asF32(tensor), key);
  }

  /** Adds a node, named by the module that it comes from where one is given. */
  node(op: string, inputs: readonly string[], attrs: Attrs = {}, name?: string): string {
    if (!this.#builder) return '';
    return this.#builder.node(op, inputs, { attrs, ...(name !== undefined && { loc: [name] }) })[0];
  }
  /** A node with several outputs. */
  split(x: string, count: number, axis: number): readonly string[] {
    const builder = this.#builder;
    if (!builder) return new Array(count).fill('');
    const outputs = Array.from({ length: count }, () => builder.fresh('Split'));
    return builder.node('Split', [x], { attrs: { axis, num_outputs: count }, outputs });
  }
  scalar(value: number): string {
    return this.#constant(`f${value}`, () => scalarTensor('f32', value));
  }
  index(value: number): string {
    return this.#constant(`n${value}`, () => scalarTensor('i64', value));
  }
  ints(values: readonly number[]): string {
    return this.#constant(`i${values}`, () => fromNumbers('i64', [values.length], values));
  }
  #constant(key: string, make: () => Tensor): string {
    const known = this.#scalars.get(key) ?? this.#builder?.constant(make()) ?? '';
    this.#scalars.set(key, known);
    return known;
  }
  /** Height and width of a value [N, C, H, W]; undefined where only names are compared. */
  size(x: string): readonly [number, number] | undefined {
    const [height, width] = this.#builder?.type(x).shape.slice(2) ?? [];
    return typeof height === 'number' && typeof width === 'number' ? [height, width] : undefined;
  }

  // Layers.

  conv(name: string, x: string, from: number, to: number, options: ConvOptions): string {
    const { kernel, stride = 1, padding = 0, groups = 1, bias = false } = options;
    const weight = this.param(`${name}.weight`, [to, from / groups, kernel, kernel]);
    const inputs = bias ? [x, weight, this.param(`${name}.bias`, [to])] : [x, weight];
    const attrs = {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
      group: groups,
    };
    return this.node('Conv', inputs, attrs, name);
  }
  batchNorm(name: string, x: string, channels: number, epsilon = 1e-5): string {
    const params = ['weight', 'bias', 'running_mean', 'running_var'].map((p) => this.param(`${name}.${p}`, [channels]));
    return this.node('BatchNormalization', [x, ...params], { epsilon }, name);
  }
  /** On the last dim; `rank` is that of x. */
  linear(name: string, x: string, from: number, to: number, rank = 2): string {
    const weight = this.param(`${name}.weight`, [to, from]);
    return this.affine(name, x, weight, this.param(`${name}.bias`, [to]), rank);
  }
  affine(name: string, x: string, weight: string, bias: string, rank: number): string {
    if (rank === 2) return this.node('Gemm', [x, weight, bias], { transB: true }, name);
    const transposed = this.node('Transpose', [weight], { perm: [1, 0] }, name);
    return this.node('Add', [this.node('MatMul', [x, transposed], {}, name), bias], {}, name);
  }
  /** Over the last dim. */
  layerNorm(name: string, x: string, channels: number, epsilon: number): string {
    const params = ['weight', 'bias'].map((p) => this.param(`${name}.${p}`, [channels]));
    return this.node('LayerNormalization', [x, ...params], { axis: -1, epsilon }, name);
  }
  transpose(x: string, perm: readonly number[]): string {
    return this.node('Transpose', [x], { perm });
  }
  activation(kind: Activation, x: string): string {
    switch (kind) {
      case 'relu':
        return this.node('Relu', [x]);
      case 'relu6':
        return this.node('Clip', [x, this.scalar(0), this.scalar(6)]);
      case 'silu':
        return this.mul(x, this.node('Sigmoid', [x]));
      case 'hardswish':
        return this.node('HardSwish', [x]);
      case 'hardsigmoid':
        return this.node('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 });
      case 'sigmoid':
        return this.node('Sigmoid', [x]);
      case 'gelu':
        return this.node('Gelu', [x]);
      case 'none':
        return x;
      default:
        return kind satisfies never;
    }
  }
  relu(x: string): string {
    return this.activation('relu', x);
  }
  add(a: string, b: string): string {
    return this.node('Add', [a, b]);
  }
  mul(a: string, b: string): string {
    return this.node('Mul', [a, b]);
  }
  concat(parts: readonly string[], axis = 1): string {
    return this.node('Concat', parts, { axis });
  }
  maxPool(x: string, options: PoolOptions): string {
    return this.node('MaxPool', [x], poolAttrs(options));
  }
  avgPool(x: string, options: PoolOptions): string {
    return this.node('AveragePool', [x], poolAttrs(options));
  }
  globalAvgPool(x: string): string {
    return this.node('GlobalAveragePool', [x]);
  }
  /**
   * AdaptiveAvgPool2d to size x size. Windows of one size are a pooling; else each output row is a mean of input rows
   * floor(i·H/size) to ceil((i+1)·H/size), so both axes are products with constant matrices.
   */
  adaptiveAvgPool(x: string, size: number): string {
    const from = this.size(x);
    if (from === undefined || from.every((n) => n === size)) return x;
    const [height, width] = from;
    if (height === width && height % size === 0)
      return this.avgPool(x, { kernel: height / size, stride: height / size });
    const overWidth = this.node('MatMul', [x, this.#matrix(meansMatrix(width, size), [width, size], [1, 0])]);
    return this.node('MatMul', [this.#matrix(meansMatrix(height, size), [height, size]), overWidth]);
  }
  /** `columns` holds [from, to] weights as rows of `to`; transposed where perm says so. */
  #matrix(
    rows: readonly (readonly number[])[],
    [from, to]: readonly [number, number],
    perm?: readonly number[],
  ): string {
    const matrix = this.#constant(`m${from},${to}`, () => fromNumbers('f32', [to, from], rows.flat()));
    return perm ? this.transpose(matrix, perm) : matrix;
  }
  flatten(x: string): string {
    return this.node('Flatten', [x], { axis: 1 });
  }
}

const poolAttrs = ({ kernel, stride, padding = 0, ceil = false }: PoolOptions): Attrs => ({
  kernel_shape: [kernel, kernel],
  strides: [stride, stride],
  pads: [padding, padding, padding, padding],
  ceil_mode: ceil,
});

/** Row i has the weights with which the inputs make output i. */
function meansMatrix(from: number, to: number): number[][] {
  return Array.from({ length: to }, (_, i) => {
    const begin = Math.floor((i * from) / to);
    const end = Math.ceil(((i + 1) * from) / to);
    return Array.from({ length: from }, (_, j) => (j >= begin && j < end ? 1 / (end - begin) : 0));
  });
}

/** Networks compute in f32, whatever their weights were stored as. */
const asF32 = (tensor: Tensor): Tensor =>
  tensor.dtype === 'f32' ? tensor : fromNumbers('f32', tensor.shape, toNumbers(tensor));
