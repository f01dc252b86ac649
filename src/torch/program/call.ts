/**
 * One call of an exported program as its translation sees it: arguments by the names of PyTorch's schema, and the builder behind.
 *
 * Sizes that only running tells are values too: vectors of one i64. Whatever is an integer in the program stays one here.
 */
import { type DType, isFloat } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import type { Dim } from '../../core/shape.ts';
import { fromNumbers, scalarTensor, type Tensor, type ValueType } from '../../core/tensor.ts';
import type { GraphBuilder } from '../../graph/build.ts';
import type { Attrs } from '../../graph/ir.ts';
import { type Argument, dtypeOfCode, type ProgramNode } from './schema.ts';

/** An integer, or the value that holds it. */
export type Size = number | { readonly value: string };

/** What a name of the program stands for. */
export type Bound = string | Size;

/** What a call gives: a value for each of its outputs ('' where it is not computed), or a size. */
export type Result = string | readonly string[] | { readonly size: Size };

export class Call {
  readonly builder: GraphBuilder;
  readonly #node: ProgramNode;
  readonly #find: (name: string) => Bound | undefined;
  readonly #types: ReadonlyMap<string, ValueType>;

  constructor(
    builder: GraphBuilder,
    node: ProgramNode,
    find: (name: string) => Bound | undefined,
    types: ReadonlyMap<string, ValueType>,
  ) {
    this.builder = builder;
    this.#node = node;
    this.#find = find;
    this.#types = types;
  }

  /** Throws ModelError `torch-unsupported` for a form of the operator that is not translated. */
  fail(message: string): never {
    throw new ModelError('torch-unsupported', `${this.#node.target} "${this.#node.name}": ${message}`);
  }

  // Arguments.

  #argument(name: string): Argument | undefined {
    const argument = this.#node.inputs.get(name);
    return argument?.kind === 'none' ? undefined : argument;
  }
  has(name: string): boolean {
    return this.#argument(name) !== undefined;
  }
  isTensor(name: string): boolean {
    return this.#argument(name)?.kind === 'tensor';
  }
  tensor(name: string): string {
    return this.optionalTensor(name) ?? this.fail(`tensor "${name}" is missing`);
  }
  optionalTensor(name: string): string | undefined {
    const argument = this.#argument(name);
    return argument?.kind === 'tensor' ? this.#value(argument.name) : undefined;
  }
  tensors(name: string): readonly string[] {
    return this.optionalTensors(name).map((value) => value ?? this.fail(`a tensor of "${name}" is missing`));
  }
  optionalTensors(name: string): readonly (string | undefined)[] {
    const argument = this.#argument(name);
    if (argument?.kind !== 'tensors') return this.fail(`"${name}" is no list of tensors`);
    return argument.names.map((each) => (each === undefined ? undefined : this.#value(each)));
  }
  #value(name: string): string {
    const bound = this.#find(name);
    return typeof bound === 'string' && bound !== ''
      ? bound
      : this.fail(`"${name}" is a result that is not computed here`);
  }
  /** A number known now; `absent` where it is left out. */
  number(name: string, absent?: number): number {
    const argument = this.#argument(name);
    if (argument?.kind === 'number' && typeof argument.value === 'number') return argument.value;
    if (argument?.kind === 'bool') return Number(argument.value);
    if (argument === undefined && absent !== undefined) return absent;
    return this.fail(`"${name}" is no number that is known before running`);
  }
  optionalNumber(name: string): number | undefined {
    return this.has(name) ? this.number(name) : undefined;
  }
  bool(name: string, absent: boolean): boolean {
    const argument = this.#argument(name);
    return argument?.kind === 'bool' ? argument.value : absent;
  }
  text(name: string, absent: string): string {
    const argument = this.#argument(name);
    return argument?.kind === 'text' ? argument.value : absent;
  }
  /** Numbers known now; one number stands for a list of it. */
  numbers(name: string, absent: readonly number[]): readonly number[] {
    if (!this.has(name)) return absent;
    return this.sizes(name).map((size) =>
      typeof size === 'number' ? size : this.fail(`"${name}" holds a size that only running tells`),
    );
  }
  size(name: string): Size {
    const argument = this.#argument(name);
    if (argument?.kind === 'number') return this.#size(argument.value);
    return this.fail(`"${name}" is no size`);
  }
  sizes(name: string): readonly Size[] {
    const argument = this.#argument(name);
    if (argument?.kind === 'number') return [this.#size(argument.value)];
    if (argument?.kind === 'numbers') return argument.values.map((value) => this.#size(value));
    return this.fail(`"${name}" is no list of sizes`);
  }
  #size(value: number | string): Size {
    if (typeof value === 'number') return value;
    const bound = this.#find(value);
    return bound === undefined || typeof bound === 'string' ? this.fail(`"${value}" is no size`) : bound;
  }
  dtype(name: string): DType | undefined {
    const argument = this.#argument(name);
    return argument?.kind === 'dtype' ? dtypeOfCode(argument.code, `"${name}" of ${this.#node.target}`) : undefined;
  }

  // Types.

  type(value: string): ValueType {
    return this.builder.type(value);
  }
  rank(value: string): number {
    return this.type(value).shape.length;
  }
  /** A dim counted from the end where negative. */
  axis(name: string, rank: number, absent?: number): number {
    const axis = this.number(name, absent);
    return axis < 0 ? axis + rank : axis;
  }
  axes(name: string, rank: number): readonly number[] {
    return this.numbers(name, []).map((axis) => (axis < 0 ? axis + rank : axis));
  }
  dim(value: string, axis: number): Dim {
    return this.type(value).shape[axis];
  }
  staticDim(value: string, axis: number): number {
    const dim = this.dim(value, axis);
    return typeof dim === 'number' ? dim : this.fail(`dim ${axis} of its input must be known, but is open`);
  }
  /** What the program says of output `i`. */
  outputType(i = 0): ValueType {
    const output = this.#node.outputs[i];
    const name = output?.kind === 'tensor' ? output.name : undefined;
    return (
      (name === undefined ? undefined : this.#types.get(name)) ?? this.fail('the type of its output is not stated')
    );
  }
  get outputCount(): number {
    const [first] = this.#node.outputs;
    return first?.kind === 'tensors' ? first.names.length : this.#node.outputs.length;
  }

  // Nodes.

  node(op: string, inputs: readonly string[], attrs: Attrs = {}): string {
    return this.builder.node(op, inputs, { attrs, loc: [this.#node.name] })[0];
  }
  nodes(op: string, inputs: readonly string[], count: number, attrs: Attrs = {}): readonly string[] {
    const outputs = Array.from({ length: count }, () => this.builder.fresh(op));
    return this.builder.node(op, inputs, { attrs, outputs, loc: [this.#node.name] });
  }
  constant(value: Tensor): string {
    return this.builder.constant(value);
  }
  scalar(value: number, dtype: DType): string {
    return this.constant(scalarTensor(dtype, value));
  }
  ints(values: readonly number[]): string {
    return this.constant(fromNumbers('i64', [values.length], values));
  }
  /** A vector of i64 from sizes. */
  vector(sizes: readonly Size[]): string {
    if (sizes.every((size) => typeof size === 'number')) return this.ints(sizes);
    return this.node(
      'Concat',
      sizes.map((size) => (typeof size === 'number' ? this.ints([size]) : size.value)),
      { axis: 0 },
    );
  }
  /** A tensor of one value. */
  filled(sizes: readonly Size[], value: number, dtype: DType): string {
    return this.node('ConstantOfShape', [this.vector(sizes)], { value: fromNumbers(dtype, [1], [value]) });
  }
  /** The sizes of a value, computed where they are open. */
  sizesOf(value: string): readonly Size[] {
    return this.type(value).shape.map((dim, i) =>
      typeof dim === 'number' ? dim : { value: this.node('Shape', [value], { start: i, end: i + 1 }) },
    );
  }
  cast(value: string, to: DType): string {
    return this.type(value).dtype === to ? value : this.node('Cast', [value], { to });
  }
  /** A tensor argument, or a number as a tensor of that dtype. */
  operand(name: string, dtype: DType): string {
    if (this.isTensor(name)) return this.cast(this.tensor(name), dtype);
    const argument = this.#argument(name);
    if (argument?.kind === 'number' && typeof argument.value === 'string') {
      const size = this.size(name);
      return typeof size === 'number' ? this.scalar(size, dtype) : this.cast(this.node('Squeeze', [size.value]), dtype);
    }
    return this.scalar(this.number(name), dtype);
  }
  /** The dtype in which PyTorch compares or combines the arguments: https://pytorch.org/docs/stable/tensor_attributes.html */
  promoted(...names: readonly string[]): DType {
    const tensors = names.filter((name) => this.isTensor(name)).map((name) => this.type(this.tensor(name)));
    // A tensor without dims weighs as a number does: it changes the category only.
    const weighty = tensors.filter(({ shape }) => shape.length > 0);
    const scalars: DType[] = names.flatMap((name) => {
      const argument = this.#argument(name);
      return argument?.kind === 'number' ? [argument.isFloat ? 'f32' : 'i64'] : [];
    });
    const light = [...tensors.filter(({ shape }) => shape.length === 0).map(({ dtype }) => dtype), ...scalars];
    const heavy = weighty.map(({ dtype }) => dtype).reduce<DType | undefined>(wider, undefined);
    const other = light.reduce<DType | undefined>(wider, undefined);
    if (heavy === undefined || other === undefined) return heavy ?? other ?? 'f32';
    return category(other) > category(heavy) ? other : heavy;
  }
}

const category = (dtype: DType): number => (isFloat(dtype) ? 2 : dtype === 'bool' ? 0 : 1);
const WIDTHS: readonly DType[] = ['bool', 'u8', 'i8', 'i16', 'i32', 'i64', 'f16', 'bf16', 'f32', 'f64'];

/** The wider of two dtypes as PyTorch promotes them: f16 with bf16 is f32, u8 with i8 is i16. */
function wider(a: DType | undefined, b: DType): DType {
  if (a === undefined || a === b) return b;
  if ((a === 'f16' && b === 'bf16') || (a === 'bf16' && b === 'f16')) return 'f32';
  if ((a === 'u8' && b === 'i8') || (a === 'i8' && b === 'u8')) return 'i16';
  return WIDTHS.indexOf(a) > WIDTHS.indexOf(b) ? a : b;
}
