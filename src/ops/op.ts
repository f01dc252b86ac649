/**
 * What an operator is: all that Hotrod knows of one, in one record, in one file of this folder; `all.ts` has a line for each.
 *
 * Shared code never asks for an operator by name. It asks how the operator lowers, or one of its traits.
 * - `infer` and `eval` are the definition. `onnx` says how older opsets are upgraded to the newest form.
 * - `expand` writes the operator with others; where it is given, no target ever sees the operator.
 * - `lower` makes it part of a kernel:
 *     elementwise  out[c] = expr(in0[c], in1[c], …) with NumPy broadcasting; fuses into anything
 *     index        out[c] is some input's element, at coordinates computed from c; fuses into its readers
 *     concat       the inputs one behind the other along an axis; producers write straight into their place
 *     alias        output 0 has exactly the elements of input 0 in row-major order; costs nothing
 *     kernel       a loop nest of its own, whose loads and stores take in the neighbours
 */
import type { DType } from '../core/dtype.ts';
import type { Shape, StaticShape } from '../core/shape.ts';
import type { Tensor, TensorType, ValueType } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Attrs, AttrValue, Graph, Node } from '../graph/ir.ts';
import type { InferContext, OpSemantics } from '../graph/semantics.ts';
import type { Affine, Axis, Expr, Form, Stmt } from '../loop/ir.ts';
import type { NodeWriter } from './node-writer.ts';

/** One attribute: its ONNX type, its default, its allowed values. */
export interface AttrSpec<T> {
  readonly type: 'int' | 'float' | 'string' | 'ints' | 'floats' | 'strings' | 'tensor' | 'graph' | 'bool' | 'dtype';
  readonly required: boolean;
  readonly default: T;
  readonly oneOf?: readonly string[];
}
export type AttrSpecs = Readonly<Record<string, AttrSpec<unknown>>>;
export type AttrsOf<S extends AttrSpecs> = { readonly [K in keyof S]: S[K] extends AttrSpec<infer T> ? T : never };

type OptionalAttr = <T>(type: AttrSpec<T>['type'], value: T, oneOf?: readonly string[]) => AttrSpec<T>;
const spec: OptionalAttr = (type, value, oneOf) => ({ type, required: false, default: value, ...(oneOf && { oneOf }) });

/** Constructors of attribute specs: `int(-1)` has a default, `int.optional` may be absent, `int.required` must be there. */
const attrType = <T>(type: AttrSpec<T>['type']) =>
  Object.assign((value: T) => spec<T>(type, value), {
    optional: spec<T | undefined>(type, undefined),
    required: { type, required: true, default: undefined } as unknown as AttrSpec<T>,
  });
export const int = attrType<number>('int');
export const float = attrType<number>('float');
/** An int that is 0 or 1. */
export const bool = attrType<boolean>('bool');
export const ints = attrType<readonly number[]>('ints');
export const floats = attrType<readonly number[]>('floats');
export const strings = attrType<readonly string[]>('strings');
export const tensorAttr = attrType<Tensor>('tensor');
export const graphAttr = attrType<Graph>('graph');
/** An int of ONNX's TensorProto.DataType, held as a DType. */
export const dtypeAttr = attrType<DType>('dtype');
/** A string; `oneOf('a', 'b')` has default 'a'. */
export const string = attrType<string>('string');
export const oneOf = (...values: string[]): AttrSpec<string> => spec('string', values[0], values);
/** As oneOf, where the attribute must be there. */
export const requiredOneOf = (...values: string[]): AttrSpec<string> => ({
  ...(string.required satisfies AttrSpec<string>),
  oneOf: values,
});

/** Attributes as they stand in an ONNX node of some opset, before completeAttrs. */
export interface RawNode {
  /** The operator that the node has become, in its newest form; where absent the same as before. */
  readonly op?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attrs: Attrs;
}
export interface UpgradeContext {
  readonly opset: number;
  /** Adds a constant to the graph and returns its value name. */
  constant(tensor: Tensor): string;
  /** Adds a node, of the newest opset, before this one and returns its output: for old forms that are several nodes today. */
  node(op: string, inputs: readonly string[], attrs?: Attrs): string;
  /** Elements of an input where they are known already. */
  known(input: string): Tensor | undefined;
  /** Shape of an input where it is known already. */
  shape(input: string): Shape | undefined;
  /** Rank of an input where it is known already; upgrades of axis defaults need it. */
  rank(input: string): number | undefined;
  /** Element type of an input where it is known already; upgrades that turn an attribute into an input of the same type need it. */
  dtype(input: string): DType | undefined;
  fail(message: string, hint?: string): never;
}

export interface OnnxBinding {
  /** '' is ai.onnx. */
  readonly domain?: string;
  /** The oldest opset that has the operator. */
  readonly since: number;
  /** The oldest opset whose form of the operator takes these attributes and element types; `since` where not given. */
  formSince?(attrs: Attrs, dtypes: readonly (DType | undefined)[]): number;
  /** Rewrites the form of an older opset into the newest; absent where the newest form reads them all. */
  upgrade?(node: RawNode, ctx: UpgradeContext): RawNode;
}

/** Reads of inputs and writes of outputs while a kernel is lowered; neighbours are inlined behind them. */
export interface LowerContext<A> {
  readonly attrs: A;
  /** Types of the inputs; undefined where an optional input is absent. */
  readonly inputs: readonly (TensorType | undefined)[];
  readonly outputs: readonly TensorType[];
  /** The type of an input that must be there. */
  input(i: number): TensorType;
  /** The value of input i where it is a constant. */
  constant(i: number): Tensor | undefined;
  /** The element of input i at coordinates (i32 Exprs, one a dim). */
  load(i: number, coords: readonly Expr[]): Expr;
}

export interface KernelContext<A> extends LowerContext<A> {
  /** Writes `value` as the element of output i at coords, after whatever elementwise work was fused behind the node. */
  store(i: number, coords: readonly Expr[], value: Expr): Stmt;
  /**
   * The dims of a tensor as loop axes, outermost first in the order of its layout. `axes` by dim number, `coords` for load and store.
   * `only` names dims to make axes of; the other coords are left 0. A dim of extent 1 gets no axis, and each call makes fresh ones.
   */
  outputAxes(i: number, only?: readonly number[]): { readonly axes: readonly Axis[]; readonly coords: Expr[] };
  /** The element of output i at coords that the same point stored before; only in a routine whose lowering says `rereads`. */
  loadOutput(i: number, coords: readonly Expr[]): Expr;
  /** Memory for i32 numbers of its own, as many as input i has elements; only in a routine whose lowering says `rereads`. */
  scratch(i: number, hint: string): Scratch;
  /** A fresh axis or local name that starts with `hint`. */
  fresh(hint: string): string;
}

/** i32 numbers by position. They hold anything before they are stored. */
export interface Scratch {
  load(at: Expr): Expr;
  store(at: Expr, value: Expr): Stmt;
}

export interface KernelSpec {
  readonly form: Exclude<Form, { kind: 'contract' | 'attend' }>;
  readonly axes: readonly Axis[];
  readonly body: readonly Stmt[];
}

/** A contraction in terms of coordinates; lowering turns coordinates into buffers and strides. */
export interface ContractSpec {
  readonly form: 'contract';
  readonly axes: readonly (Axis & { readonly role: 'batch' | 'm' | 'n' | 'k' })[];
  /** Coordinates of the operands (inputs of the node by number) and of output 0, as functions of the axes. */
  readonly a: { readonly input: number; readonly at: readonly Affine[]; readonly padded: boolean };
  readonly b: { readonly input: number; readonly at: readonly Affine[]; readonly padded: boolean };
  readonly out: readonly Affine[];
  /** The element of the output from the sum: bias and scale. */
  finish(acc: Expr, coords: readonly Expr[]): Expr;
}

/** How an operator wants the dims of its rank-4-like (batch, channel, space…) operands to lie in memory. */
export type LayoutWish =
  /** Channels innermost is best (convolution, pooling). */
  | 'channels-last'
  /** The last dim innermost is best (matmul, softmax, norms over trailing dims). */
  | 'row-major'
  /** Whatever its inputs have. */
  | 'any';

export type Lowering<A> =
  | { readonly kind: 'elementwise'; expr(args: readonly Expr[], attrs: A, out: DType): Expr }
  | {
      readonly kind: 'index';
      /** No element of an input is read twice, so work fused in front of it is not repeated, though the output has more elements. */
      readonly once?: boolean;
      /** How the output is to lie; as its inputs do where not given. */
      readonly layout?: LayoutWish;
      read(ctx: LowerContext<A>, output: number, coords: readonly Expr[]): Expr;
    }
  | { readonly kind: 'alias' }
  /** The inputs laid one behind the other along `axis` of the output; producers write into their place. */
  | { readonly kind: 'concat'; axis(attrs: A, rank: number): number }
  | {
      readonly kind: 'kernel';
      readonly layout: LayoutWish;
      /** Inputs whose every element is read about once, so that work fused in front of them is not repeated. */
      readonly streams: readonly number[];
      /** It loads from its outputs, so what is stored must be the node's own elements: nothing is fused behind it. */
      readonly rereads?: boolean;
      /** It can say how large its outputs are where the data decide that (counted.ts). */
      readonly counts?: boolean;
      build(ctx: KernelContext<A>): KernelSpec | ContractSpec;
    };

export interface Traits {
  /** Each element of output 0 is one of input 0's, chosen by its place or as the largest: any rising function may come before or after. */
  readonly selects?: boolean;
  /** f(a, b) = f(b, a); lets common subexpressions match. */
  readonly commutative?: boolean;
  /** The last dim of output 0 is that of this input, a matrix: its columns side by side give outputs side by side. */
  readonly columns?: number;
  /** Different result at each call (random numbers), or an effect: never folded, merged or dropped. */
  readonly impure?: boolean;
  /** f32 inputs that are positions, thresholds or scales rather than data: they keep their precision where data are narrowed to f16. */
  readonly exactInputs?: 'all' | readonly number[];
  /** Input `indices` holds positions along dim `axis` (the attribute) of input `data`: tells which integers a network takes. */
  readonly picks?: { readonly data: number; readonly indices: number };
}

/** out = scale[c]·x + shift[c], c being the index along dim `axis`; one scale and one shift an index. */
export interface ChannelAffine {
  readonly axis: number;
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/** x = (q − zeroPoint) · scale, for each index along `axis` where there are several; constants. */
export interface Quantization {
  readonly scale: Tensor;
  /** Absent: 0. */
  readonly zeroPoint: Tensor | undefined;
  readonly axis: number;
}

/** A value of bytes and the numbers that they stand for. */
export interface QuantizedValue extends Quantization {
  readonly q: string;
}

/** y = sum · scale + offset: sum is i32; scale and offset have one element or one a channel, and broadcast in the shape `along`. */
export interface IntegerSum {
  readonly sum: string;
  readonly scale: Float64Array;
  readonly offset: Float64Array | undefined;
  readonly along: StaticShape;
}

export interface InputAffine extends ChannelAffine {
  /** The input that is scaled and shifted. */
  readonly input: number;
}

/** One generated test: inputs with their dtypes and shapes (or values), attributes. Runs on every target. */
export interface OpCase {
  readonly name: string;
  readonly attrs?: Attrs;
  /** A shape draws random values of the dtype; a tensor is used as it is; undefined is absent. `constant` bakes it into the model. */
  readonly inputs: readonly (
    | { readonly dtype: DType; readonly shape: StaticShape; readonly range?: readonly [number, number] }
    | Tensor
    | { readonly constant: Tensor }
    | undefined
  )[];
  readonly outputs?: number;
  /** Relative to the largest reference magnitude; 1e-5 where not given. State the reason in the case's name or a comment. */
  readonly tolerance?: number;
}

export interface OpDef<S extends AttrSpecs = AttrSpecs> {
  readonly name: string;
  readonly onnx: OnnxBinding;
  readonly attrs: S;
  /** [least, most] number of inputs; most may be Infinity. */
  readonly inputs: readonly [number, number];
  /** Most outputs; 1 where not given. */
  readonly outputs?: number;
  infer(ctx: InferContext<AttrsOf<S>>): readonly ValueType[];
  inferDims?(ctx: InferContext<AttrsOf<S>>): readonly import('../core/shape.ts').Dim[] | undefined;
  eval(inputs: readonly (Tensor | undefined)[], attrs: AttrsOf<S>, outputs: readonly TensorType[]): Tensor[];
  /** Rewrites the node with simpler ones through the builder and returns the names of its outputs; undefined: not this node. */
  expand?(
    b: GraphBuilder,
    node: Node,
    attrs: AttrsOf<S>,
    types: readonly (ValueType | undefined)[],
  ): readonly string[] | undefined;
  /**
   * The input whose elements output 0 has, in row-major order, where the node changes nothing (Identity, x·1, a Pad by 0).
   * Asked only where that input has the type of output 0 and no other output is read, so Cast and Reshape say 0 and no more.
   */
  identity?(ctx: InferContext<AttrsOf<S>>): number | undefined;
  /** Where output 0 is one input scaled and shifted a channel by constants (batch normalisation, a product with [C,1,1]). */
  channelAffine?(ctx: InferContext<AttrsOf<S>>): InputAffine | undefined;
  /**
   * For linear operators with constant weights: the constants, by input number, with which output 0 becomes scaled and shifted.
   * Undefined where weights are not constant or the axis is not the one that they can take in. Same dtypes as before.
   */
  absorbAffine?(ctx: InferContext<AttrsOf<S>>, affine: ChannelAffine): ReadonlyMap<number, Tensor> | undefined;
  /**
   * Where `first` makes input 0 of `second`, both this operator: attributes of the one node that does the work of both on the inputs
   * of `first` (Transpose of Transpose).
   */
  mergeWith?(first: InferContext<AttrsOf<S>>, second: InferContext<AttrsOf<S>>): AttrsOf<S> | undefined;
  /** Where output 0 is the number that the elements of input 0, integers, stand for. */
  dequantizes?(ctx: InferContext<AttrsOf<S>>): Quantization | undefined;
  /** Where output 0 is input 0 as integers: round(x / scale) + zeroPoint, saturated. */
  quantizes?(ctx: InferContext<AttrsOf<S>>): Quantization | undefined;
  /** Where output 0 is input 0 with what lies outside an interval moved to its ends. */
  clips?(ctx: InferContext<AttrsOf<S>>): readonly [low: number, high: number] | undefined;
  /**
   * For linear operators: output 0 where inputs 0 and 1 stand for bytes, summed in integers; input 2 may stand for integers (`bias`), or
   * be known. Undefined where that would not be exact.
   */
  sumBytes?(
    w: NodeWriter,
    ctx: InferContext<AttrsOf<S>>,
    operands: { readonly a: QuantizedValue; readonly b: QuantizedValue; readonly bias: QuantizedValue | undefined },
  ): IntegerSum | undefined;
  /** The axis of input 1 along which its bytes may have scales of their own, for nodes that `sumBytes` sums fast; undefined: it does not. */
  weightChannels?(ctx: InferContext<AttrsOf<S>>): number | undefined;
  /**
   * For linear operators of few channels with constant weights: output 0 by nodes that find what they multiply in runs of `run` channels.
   * Undefined where there are such runs already, or where they would not pay.
   */
  packChannels?(
    w: NodeWriter,
    ctx: InferContext<AttrsOf<S>>,
    inputs: readonly string[],
    run: number,
  ): string | undefined;
  readonly lower?: Lowering<AttrsOf<S>>;
  readonly traits?: Traits;
  /** At least one case; sizes should include 1, primes and odd tails. */
  readonly cases: readonly OpCase[];
}

/** An operator as the rest of Hotrod holds it: attributes checked, defaults filled. */
export interface Op extends OpSemantics {
  readonly key: string;
  readonly onnx: OnnxBinding;
  readonly attrSpecs: AttrSpecs;
  readonly expand: OpDef['expand'] | undefined;
  readonly identity: ((ctx: InferContext) => number | undefined) | undefined;
  readonly channelAffine: ((ctx: InferContext) => InputAffine | undefined) | undefined;
  readonly absorbAffine:
    | ((ctx: InferContext, affine: ChannelAffine) => ReadonlyMap<number, Tensor> | undefined)
    | undefined;
  readonly mergeWith: ((first: InferContext, second: InferContext) => Attrs | undefined) | undefined;
  readonly dequantizes: ((ctx: InferContext) => Quantization | undefined) | undefined;
  readonly quantizes: ((ctx: InferContext) => Quantization | undefined) | undefined;
  readonly clips: ((ctx: InferContext) => readonly [low: number, high: number] | undefined) | undefined;
  readonly sumBytes: OpDef['sumBytes'] | undefined;
  readonly weightChannels: ((ctx: InferContext) => number | undefined) | undefined;
  readonly packChannels:
    | ((w: NodeWriter, ctx: InferContext, inputs: readonly string[], run: number) => string | undefined)
    | undefined;
  readonly lower: Lowering<Attrs> | undefined;
  readonly traits: Traits;
  readonly cases: readonly OpCase[];
}

/** Makes an operator. Also the public way to add a custom one: pass the result in `BuildOptions.ops`. */
export function defineOp<S extends AttrSpecs>(def: OpDef<S>): Op {
  const typed = def as unknown as OpDef;
  return {
    name: def.name,
    key: def.onnx.domain ? `${def.onnx.domain}.${def.name}` : def.name,
    onnx: def.onnx,
    attrSpecs: def.attrs,
    minInputs: def.inputs[0],
    maxInputs: def.inputs[1],
    maxOutputs: def.outputs ?? 1,
    infer: typed.infer as unknown as OpSemantics['infer'],
    ...(typed.inferDims && { inferDims: typed.inferDims as unknown as NonNullable<OpSemantics['inferDims']> }),
    eval: typed.eval as unknown as OpSemantics['eval'],
    completeAttrs: (raw, fail) => completeAttrs(def.attrs, raw, fail),
    expand: typed.expand,
    identity: typed.identity as unknown as Op['identity'],
    channelAffine: typed.channelAffine as unknown as Op['channelAffine'],
    absorbAffine: typed.absorbAffine as unknown as Op['absorbAffine'],
    mergeWith: typed.mergeWith as unknown as Op['mergeWith'],
    dequantizes: typed.dequantizes as unknown as Op['dequantizes'],
    quantizes: typed.quantizes as unknown as Op['quantizes'],
    clips: typed.clips as unknown as Op['clips'],
    sumBytes: typed.sumBytes,
    weightChannels: typed.weightChannels as unknown as Op['weightChannels'],
    packChannels: typed.packChannels as unknown as Op['packChannels'],
    lower: typed.lower as Lowering<Attrs> | undefined,
    traits: def.traits ?? {},
    cases: def.cases,
  };
}

const isNumberList = (v: AttrValue): boolean => Array.isArray(v) && v.every((x) => typeof x === 'number');
const FITS: { readonly [T in AttrSpec<unknown>['type']]: (v: AttrValue) => boolean } = {
  int: Number.isInteger,
  float: (v) => typeof v === 'number',
  bool: (v) => typeof v === 'boolean',
  string: (v) => typeof v === 'string',
  dtype: (v) => typeof v === 'string',
  ints: isNumberList,
  floats: isNumberList,
  strings: (v) => Array.isArray(v) && v.every((x) => typeof x === 'string'),
  tensor: (v) => typeof v === 'object' && 'dtype' in v,
  graph: (v) => typeof v === 'object' && 'nodes' in v,
};

function completeAttrs(specs: AttrSpecs, raw: Attrs, fail: (message: string, hint?: string) => never): Attrs {
  const out: Record<string, AttrValue> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const value = raw[name] === undefined ? (spec.default as AttrValue) : raw[name];
    if (value === undefined) {
      if (spec.required) fail(`attribute "${name}" is missing`);
      continue;
    }
    if (!FITS[spec.type](value)) fail(`attribute "${name}" is ${JSON.stringify(value)}, expected ${spec.type}`);
    if (spec.oneOf && !spec.oneOf.includes(value as string)) {
      fail(`attribute "${name}" is ${JSON.stringify(value)}, expected one of ${spec.oneOf.join(', ')}`);
    }
    out[name] = value;
  }
  for (const name of Object.keys(raw))
    if (!(name in specs)) fail(`unknown attribute "${name}"`, `known: ${Object.keys(specs).join(', ') || 'none'}`);
  return out;
}
