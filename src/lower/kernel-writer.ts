/**
 * Writes the kernel of one cluster: the root's own loops, with everything fused around it inlined as expressions.
 *
 * `element(value, coords)` is the heart: the Expr of one element of a value, which is a load where the value lies in memory, and the
 * producing operator's own expression where it was inlined. Coordinates are i32 Exprs, one a dim; dims of extent 1 have coordinate 0.
 */
import { type DType, isBigInt, isFloat } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { elements, type StaticShape } from '../core/shape.ts';
import { decodeScalar, type Tensor, type TensorType } from '../core/tensor.ts';
import { type Graph, type Node, nodeLabel } from '../graph/ir.ts';
import { affineRange } from '../loop/affine.ts';
import { affineExpr, contractKernel } from '../loop/contract.ts';
import * as e from '../loop/expr.ts';
import type { Access, Axis, Buffer, Contract, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { shareSubexpressions } from '../loop/share.ts';
import type { ContractSpec, KernelContext, KernelSpec, LowerContext, Op, Scratch } from '../ops/op.ts';
import type { Cluster, Fusion } from './fuse.ts';
import { orderOf, type Storage, span } from './storage.ts';

export interface Operand {
  readonly value: string;
  readonly storage: Storage;
  readonly role: 'in' | 'out';
}

export interface WrittenKernel {
  readonly kernel: Kernel;
  /** One a buffer of the kernel: the value it holds and where that lies. */
  readonly operands: readonly Operand[];
}

export interface WriterContext {
  readonly graph: Graph;
  readonly ops: ReadonlyMap<string, Op>;
  readonly fusion: Fusion;
  /** Where a value that is not inlined lies. May add the steps that bring it there. */
  storageOf(value: string): Storage;
  /** A place for as many i32 numbers as a value has elements, that no value lies in. */
  scratchFor(value: string, name: string): Storage;
}

export class KernelWriter {
  readonly #ctx: WriterContext;
  readonly #operands: Operand[] = [];
  readonly #memo = new Map<string, Expr>();
  readonly #ids = new Map<Expr, number>();
  /** Values already computed in this kernel, at the coordinates of the point: what the root gave. */
  readonly #bound = new Map<string, Expr>();
  readonly #taken = new Map<string, number>();
  /** Values that this kernel computes by elementwise or index nodes, its result among them. */
  readonly #behind = new Set<string>();

  constructor(ctx: WriterContext) {
    this.#ctx = ctx;
  }

  /** The kernel of a cluster, given where each of its stored values goes. */
  write(cluster: Cluster, target: ReadonlyMap<string, Storage>): WrittenKernel {
    const lowering = this.#op(cluster.root).lower;
    for (const node of cluster.behind) this.#behind.add(node.outputs[0]);
    if (lowering?.kind !== 'kernel') {
      this.#behind.add(cluster.root.outputs[cluster.output]);
      return this.#writeMap(cluster.value, cluster.value, target);
    }
    const spec = lowering.build(this.#kernelContext(cluster, target));
    return 'body' in spec
      ? this.#kernel({ ...spec, body: this.#share(spec.body) })
      : this.#finishContract(spec, cluster, target);
  }

  /** A kernel that stores `source`'s elements, whatever computes them, into the place of `value`: a map, or a copy. */
  writeCopy(source: string, value: string, storage: Storage): WrittenKernel {
    return this.#writeMap(source, value, new Map([[value, storage]]));
  }

  /** As writeCopy, where `storage` has the elements of `source` in row-major order under another shape. */
  writeReshape(source: string, value: string, storage: Storage): WrittenKernel {
    const { axes, coords } = this.#axesOf(storage);
    const element = this.#element(source, reshapedCoords(coords, storage.shape, this.#type(source).shape));
    const body = [this.#store(value, storage, coords, element)];
    return this.#kernel({ form: { kind: 'move' }, axes, body });
  }

  #writeMap(source: string, value: string, target: ReadonlyMap<string, Storage>): WrittenKernel {
    const storage = target.get(value) as Storage;
    const { axes, coords } = this.#axesOf(storage);
    const element = this.#element(source, coords);
    const store = this.#store(value, storage, coords, element);
    const kind = element.kind === 'load' ? 'move' : 'map';
    return this.#kernel({ form: { kind }, axes, body: shareSubexpressions(store, (hint) => this.#fresh(hint)) });
  }

  #share(body: readonly Stmt[]): Stmt[] {
    return body.flatMap((stmt) =>
      'body' in stmt
        ? [{ ...stmt, body: this.#share(stmt.body) }]
        : shareSubexpressions(stmt, (hint) => this.#fresh(hint)),
    );
  }

  #kernel(spec: KernelSpec): WrittenKernel {
    const buffers = this.#buffers();
    const name = kernelName(spec.form.kind, buffers, spec.axes);
    return { kernel: { name, form: spec.form, buffers, axes: spec.axes, body: spec.body }, operands: this.#operands };
  }

  #finishContract(spec: ContractSpec, cluster: Cluster, target: ReadonlyMap<string, Storage>): WrittenKernel {
    const storage = target.get(cluster.value) as Storage;
    const a = this.#access(spec, spec.a, cluster.root);
    const b = this.#access(spec, spec.b, cluster.root);
    const acc = accumulatorOf(this.#type(cluster.root.inputs[spec.a.input]).dtype);
    const coords = spec.out.map((at, d) => (storage.shape[d] === 1 ? e.index(0) : affineExpr(at)));
    const value = spec.finish(e.cast(this.#type(cluster.root.outputs[0]).dtype, e.local('acc', acc)), coords);
    const store = this.#storeBehind(cluster, target, coords, value);
    const epilogue = shareSubexpressions(store, (hint) => this.#fresh(hint));
    const stride = (axis: string) =>
      spec.out.reduce((sum, at, d) => sum + (at.terms.find((t) => t.axis === axis)?.coef ?? 0) * storage.strides[d], 0);
    const outer = spec.axes.filter((x) => x.role !== 'k').toSorted((x, y) => stride(y.name) - stride(x.name));
    const form: Contract = {
      kind: 'contract',
      axes: [...outer, ...spec.axes.filter((x) => x.role === 'k')],
      a,
      b,
      acc,
      epilogue,
    };
    const buffers = this.#buffers();
    return {
      kernel: contractKernel(kernelName('contract', buffers, form.axes), buffers, form),
      operands: this.#operands,
    };
  }

  #access(spec: ContractSpec, operand: ContractSpec['a'], root: Node): Access {
    const value = root.inputs[operand.input];
    const storage = this.#ctx.storageOf(value);
    const dims = operand.at.map((at, d) => {
      const extent = storage.shape[d];
      const [low, high] = affineRange(at, spec.axes);
      return { at, extent, stride: storage.strides[d], padded: operand.padded && (low < 0 || high >= extent) };
    });
    const used = dims.filter((d) => d.padded || d.at.terms.length > 0 || d.at.constant !== 0);
    return { buffer: this.#buffer(value, storage, 'in'), dims: used };
  }

  #kernelContext(cluster: Cluster, target: ReadonlyMap<string, Storage>): KernelContext<never> {
    const { root } = cluster;
    return {
      ...this.#lowerContext(root),
      store: (i, coords, value) =>
        i === cluster.output
          ? this.#storeBehind(cluster, target, coords, value)
          : this.#store(root.outputs[i], target.get(root.outputs[i]) as Storage, coords, value),
      outputAxes: (i, only) =>
        this.#axesOf(target.get(i === cluster.output ? cluster.value : root.outputs[i]) as Storage, only),
      loadOutput: (i, coords) => {
        const value = root.outputs[i];
        const storage = target.get(value) as Storage;
        return e.load(this.#buffer(value, storage, 'out'), this.#type(value).dtype, offsetAt(storage, coords));
      },
      scratch: (i, hint) => this.#scratch(root, i, hint),
      fresh: (hint) => this.#fresh(hint),
    };
  }

  #scratch(root: Node, input: number, hint: string): Scratch {
    const name = `${root.outputs.find(Boolean)}/${hint}`;
    const buffer = this.#buffer(name, this.#ctx.scratchFor(root.inputs[input], name), 'out');
    return {
      load: (at) => e.load(buffer, 'i32', at),
      store: (at, value) => ({ kind: 'store', buffer, index: at, value }),
    };
  }

  #lowerContext(node: Node): LowerContext<never> {
    const type = (name: string) => (name === '' ? undefined : this.#type(name));
    return {
      attrs: node.attrs as never,
      inputs: node.inputs.map(type),
      outputs: node.outputs.map((name) => type(name) as TensorType),
      input: (i) => type(node.inputs[i] ?? '') ?? missing(node, i),
      constant: (i) => this.#constant(node.inputs[i] ?? ''),
      load: (i, coords) => this.#element(node.inputs[i], coords),
    };
  }

  /** Stores what the nodes behind the root make of its element. */
  #storeBehind(cluster: Cluster, target: ReadonlyMap<string, Storage>, coords: readonly Expr[], value: Expr): Stmt {
    this.#bound.set(cluster.root.outputs[cluster.output], value);
    const element = cluster.behind.length === 0 ? value : this.#element(cluster.value, coords);
    return this.#store(cluster.value, target.get(cluster.value) as Storage, coords, element);
  }

  #store(value: string, storage: Storage, coords: readonly Expr[], element: Expr): Stmt {
    return {
      kind: 'store',
      buffer: this.#buffer(value, storage, 'out'),
      index: offsetAt(storage, coords),
      value: element,
    };
  }

  /** The element of a value at coords. */
  #element(value: string, coords: readonly Expr[]): Expr {
    const key = `${value}@${coords.map((c) => this.#id(c)).join()}`;
    let x = this.#memo.get(key);
    if (!x) {
      x = this.#makeElement(value, coords);
      this.#memo.set(key, x);
    }
    return x;
  }

  #makeElement(value: string, coords: readonly Expr[]): Expr {
    const bound = this.#bound.get(value);
    if (bound) return bound;
    const constant = this.#constant(value);
    if (constant && elements(constant.shape) === 1)
      return e.constant(constant.dtype, decodeScalar(constant.dtype, constant.data[0]));
    const producer = this.#ctx.fusion.producers.get(value);
    const lowering = producer && this.#op(producer.node).lower;
    if (producer && (lowering?.kind === 'elementwise' || lowering?.kind === 'index')) {
      if (this.#behind.has(value) || this.#ctx.fusion.inlined.has(value)) {
        if (lowering.kind === 'index') return lowering.read(this.#lowerContext(producer.node), producer.output, coords);
        const { shape, dtype } = this.#type(value);
        const args = producer.node.inputs.map((name) =>
          name === '' ? (undefined as never) : this.#element(name, broadcast(coords, shape, this.#type(name).shape)),
        );
        return lowering.expr(args, producer.node.attrs, dtype);
      }
    }
    const storage = this.#ctx.storageOf(value);
    const { dtype } = this.#type(value);
    return e.load(this.#buffer(value, storage, 'in'), dtype, offsetAt(storage, coords));
  }

  #axesOf(storage: Storage, only?: readonly number[]): { axes: Axis[]; coords: Expr[] } {
    const coords: Expr[] = storage.shape.map(() => e.index(0));
    const axes: Axis[] = [];
    for (const dim of orderOf(storage)) {
      if (storage.shape[dim] === 1 || (only && !only.includes(dim))) continue;
      const name = this.#fresh('i');
      axes.push({ name, extent: storage.shape[dim] });
      coords[dim] = e.axis(name);
    }
    return { axes, coords };
  }

  #buffer(value: string, storage: Storage, role: 'in' | 'out'): string {
    let at = this.#operands.findIndex((o) => o.value === value && o.role === role);
    if (at < 0) at = this.#operands.push({ value, storage, role }) - 1;
    return `${role}${this.#operands.slice(0, at).filter((o) => o.role === role).length}`;
  }

  #buffers(): Buffer[] {
    return this.#operands.map(({ value, storage, role }) => ({
      name: this.#buffer(value, storage, role),
      dtype: storage.block.dtype,
      elements: span(storage),
      role,
    }));
  }

  #fresh(hint: string): string {
    const count = this.#taken.get(hint) ?? 0;
    this.#taken.set(hint, count + 1);
    return `${hint}${count}`;
  }

  /** A number for an expression: constants by value, the rest by identity. */
  #id(x: Expr): string {
    if (x.kind === 'const') return `=${x.value}`;
    const id = this.#ids.get(x) ?? this.#ids.size;
    this.#ids.set(x, id);
    return String(id);
  }

  #op(node: Node): Op {
    const op = this.#ctx.ops.get(node.op);
    if (!op) throw new Bug('lower-op', `no operator ${node.op} while lowering ${nodeLabel(node)}`);
    return op;
  }

  #type(value: string): TensorType {
    return this.#ctx.graph.values.get(value) as TensorType;
  }

  #constant(value: string): Tensor | undefined {
    return this.#ctx.graph.constants.get(value);
  }
}

const missing = (node: Node, input: number): never => {
  throw new Bug('lower-input', `${nodeLabel(node)} lowers with input ${input}, which it does not have`);
};

/** Offset of an element in its buffer, which starts at the storage's own offset. */
const offsetAt = (storage: Storage, coords: readonly Expr[]): Expr =>
  coords.reduce<Expr>(
    (sum, c, d) => (storage.shape[d] === 1 ? sum : e.add(sum, e.mul(c, e.index(storage.strides[d])))),
    e.index(storage.shift ?? 0),
  );

/**
 * Coordinates in `to` of the element that has `coords` in `from`, both row-major: dims of equal size at both ends stay, those between
 * are counted through.
 */
function reshapedCoords(coords: readonly Expr[], from: StaticShape, to: StaticShape): Expr[] {
  const least = Math.min(from.length, to.length);
  let head = 0;
  while (head < least && from[head] === to[head]) head++;
  let tail = 0;
  while (tail < least - head && from[from.length - 1 - tail] === to[to.length - 1 - tail]) tail++;
  let flat: Expr = e.index(0);
  for (let d = head; d < from.length - tail; d++) flat = e.add(e.mul(flat, e.index(from[d])), coords[d]);
  const middle: Expr[] = [];
  for (let d = to.length - tail - 1; d >= head; d--) {
    middle.unshift(d === head ? flat : e.binary('mod', flat, e.index(to[d])));
    flat = e.binary('floordiv', flat, e.index(to[d]));
  }
  return [...coords.slice(0, head), ...middle, ...coords.slice(from.length - tail)];
}

/** Coordinates of an operand that NumPy broadcasting stretches to `from`, seen at coords of `from`. */
const broadcast = (coords: readonly Expr[], from: StaticShape, to: StaticShape): Expr[] =>
  to.map((extent, d) => (extent === 1 ? e.index(0) : coords[d + from.length - to.length]));

function accumulatorOf(dtype: DType): DType {
  if (dtype === 'f64') return 'f64';
  return isFloat(dtype) ? 'f32' : isBigInt(dtype) ? dtype : 'i32';
}

/** `contract_f32_56x56x64x64`. */
export const kernelName = (form: string, buffers: readonly Buffer[], axes: readonly Axis[]): string => {
  const dtype = buffers.find((b) => b.role === 'out')?.dtype ?? 'none';
  return [form, dtype, axes.map((a) => a.extent).join('x') || '1'].join('_');
};
