/**
 * One lowering for all sizes, from lowerings at sample sizes: where the samples' kernels differ in a number, the number becomes a word
 * of the table of sizes (size-table.ts).
 *
 *     at 5: for i < 5 { y[i] = x[i] / 5 }    at 7: for i < 7 { y[i] = x[i] / 7 }
 *     for all: for i < 512 upto sizes[0] { y[i] = x[i] / f32(sizes[0]) }
 *
 * So an operator's lowering, written for known sizes, serves open ones, and what folded shape arithmetic left in kernels is computed
 * again at run time. The samples must agree in everything else: steps, buffers, operations, strides (memory is laid out for the largest
 * sizes). Where they do not, the model is refused with the node's name.
 */
import { type DType, isBigInt, isFloat, type Scalar } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { type Dim, elements, rowMajorStrides, type StaticShape, shapesEqual } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { contractKernel } from '../loop/contract.ts';
import * as e from '../loop/expr.ts';
import type { Access, Affine, Axis, Buffer, Contract, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { nameWords, withCountSteps } from './count-steps.ts';
import type { DataSize } from './data-sizes.ts';
import { kernelName, type Operand } from './kernel-writer.ts';
import type { LoweredSizes, RawGraph, RawStep } from './lower.ts';
import { type SizeTable, TABLE } from './size-table.ts';
import { type Block, type Storage, span } from './storage.ts';

/**
 * `constantAtMost` gives the value of a constant at the largest sizes, by its name; `data` are the sizes that steps count. Throws
 * ModelError `shape-open`.
 */
export function generalise(
  samples: readonly RawGraph[],
  table: SizeTable,
  constantAtMost: (name: string) => Tensor,
  data: readonly DataSize[] = [],
): RawGraph & { readonly sizes: LoweredSizes } {
  const [first] = samples;
  const counts = samples.map((s) => s.steps.length);
  if (counts.some((n) => n !== counts[0]))
    throw differ(first.name, `it has ${counts.join(' or ')} steps, depending on the sizes`);
  const constants = new Map<Block, Tensor>();
  const block: Block = { id: -1, name: TABLE, dtype: 'i32', elements: 0, space: 'arena' };
  const blocks = new Map<Block, Block>();
  const steps: RawStep[] = [];
  const blockOf = (storages: readonly Storage[]): Block => {
    const known = blocks.get(storages[0].block);
    if (known) return known;
    const values = storages.map((s, i) => samples[i].constants.get(s.block));
    const isConstant = values.every((v) => v !== undefined);
    const kept = isConstant ? keptConstant(storages[0].block, values, constantAtMost) : undefined;
    if (kept) constants.set(storages[0].block, kept);
    const made = kept || !isConstant ? storages[0].block : counted(storages, values);
    blocks.set(storages[0].block, made);
    return made;
  };
  /** A constant whose elements count along its dims, or are a few, and depend on the sizes, becomes a step that computes it. */
  const counted = (storages: readonly Storage[], values: readonly Tensor[]): Block => {
    const from = storages[0].block;
    const made: Block = { ...from, space: 'arena' };
    const stepsBy = (write: typeof countingStep) => {
      const raw = values.map((value, i) => write(made, value, storages[i]));
      return raw.every((step) => step !== undefined) ? raw : undefined;
    };
    const raw = stepsBy(countingStep) ?? stepsBy(listingStep);
    if (!raw) throw differ(`constant "${from.name}"`, 'its elements depend on the sizes');
    steps.push(new StepMerger(table, block, () => made).step(raw));
    return made;
  };
  const merge = new StepMerger(table, block, blockOf);
  for (let i = 0; i < counts[0]; i++) steps.push(merge.step(samples.map((s) => s.steps[i])));
  const ends = (which: 'inputs' | 'outputs') =>
    first[which].map(({ name }, i) => {
      const { storage, dims } = merge.storage(
        samples.map((s) => s[which][i].storage),
        [name],
      );
      return { io: { name, storage }, dims };
    });
  const [inputs, outputs] = [ends('inputs'), ends('outputs')];
  // Whoever runs the engine finds the sizes of inputs and outputs in the table.
  for (const { dims } of [...inputs, ...outputs])
    for (const dim of dims) if (typeof dim !== 'number') table.slotOf(dim);
  nameWords(table, data);
  const formulas = table.formulas;
  const words = Math.max(1, formulas.length);
  const sized: Block = { ...block, elements: words };
  const complete = steps.map((step) => withTable(step, block, sized));
  return {
    name: first.name,
    steps: data.length > 0 ? withCountSteps(complete, sized, table, data) : complete,
    inputs: inputs.map(({ io }) => io),
    outputs: outputs.map(({ io }) => io),
    constants,
    sizes: {
      block: sized,
      formulas,
      data: data.map(({ name, atMost }) => ({ name, atMost })),
      inputs: inputs.map(({ dims }) => dims),
      outputs: outputs.map(({ dims }) => dims),
    },
  };
}

const differ = (where: string, what: string): ModelError =>
  new ModelError('shape-open', `${where} cannot be built for open sizes: ${what}`, {
    hint: 'build an engine for each size with --shapes',
  });

/** Once the table is complete every step sees all of it. */
function withTable(step: RawStep, block: Block, sized: Block): RawStep {
  const at = step.operands.findIndex((o) => o.storage.block === block);
  if (at < 0) return step;
  const storage: Storage = { block: sized, offset: 0, shape: [sized.elements], strides: [1] };
  const buffers = step.kernel.buffers.with(at, { ...step.kernel.buffers[at], elements: sized.elements });
  const operands = step.operands.with(at, { ...step.operands[at], storage });
  return { ...step, kernel: { ...step.kernel, buffers }, operands };
}

/** The value of a constant that does not depend on the sizes, or the one at the largest of which all others are corners. */
function keptConstant(
  block: Block,
  values: readonly Tensor[],
  constantAtMost: (name: string) => Tensor,
): Tensor | undefined {
  const [value] = values;
  const isSame = values.every((v) => shapesEqual(v.shape, value.shape)) && block.elements === elements(value.shape);
  const whole = isSame ? value : constantAtMost(block.name);
  const isWhole = elements(whole.shape) === block.elements && values.every((v) => isCorner(v, whole));
  return isWhole ? whole : undefined;
}

/** The step that stores `value`, where its integer elements are start + sum of by·coordinate; all dims and amounts are spelled out. */
function countingStep(block: Block, value: Tensor, { shape, strides }: Storage): RawStep | undefined {
  const { dtype, data } = value;
  if (isFloat(dtype) || dtype === 'bool' || data.length === 0) return undefined;
  const rows = rowMajorStrides(shape);
  const start = BigInt(data[0]);
  const by = shape.map((extent, d) => (extent > 1 ? BigInt(data[rows[d]]) - start : 0n));
  for (let i = 0; i < data.length; i++) {
    const told = by.reduce((sum, b, d) => sum + b * BigInt(Math.floor(i / rows[d]) % shape[d]), start);
    if (told !== BigInt(data[i])) return undefined;
  }
  const plain = (n: bigint): Expr => e.constant(dtype, isBigInt(dtype) ? n : Number(n));
  // Not by the constructors: what folds at one sample must stand at all.
  const node = (op: 'add' | 'mul', a: Expr, b: Expr): Expr => ({ kind: 'binary', dtype, op, a, b });
  const open = shape.map((_, d) => d).filter((d) => shape[d] > 1);
  const element = open.reduce(
    (sum, d) => node('add', sum, node('mul', e.cast(dtype, e.axis(`d${d}`)), plain(by[d]))),
    plain(start),
  );
  return storingStep(block, element, { shape, strides });
}

/** Lists of sizes are no longer than this. */
const MOST_LISTED = 64;

/** The step that stores a short vector of integers, each spelled out. */
function listingStep(block: Block, { dtype, data }: Tensor, { shape, strides }: Storage): RawStep | undefined {
  if (isFloat(dtype) || dtype === 'bool' || shape.length !== 1 || data.length > MOST_LISTED) return undefined;
  const numbers = Array.from(data as ArrayLike<Scalar>, (x): Expr => ({ kind: 'const', dtype, value: x }));
  const element = numbers.reduceRight((rest, x, i): Expr => {
    const cond = e.binary('eq', e.axis('d0'), e.index(i));
    return { kind: 'select', dtype, cond, a: x, b: rest };
  });
  return storingStep(block, element, { shape, strides });
}

/** `element` is made of axes d0, d1, … of the dims that are larger than 1. */
function storingStep(block: Block, element: Expr, { shape, strides }: Pick<Storage, 'shape' | 'strides'>): RawStep {
  const open = shape.map((_, d) => d).filter((d) => shape[d] > 1);
  const index = open.reduce((sum, d) => e.add(sum, e.mul(e.axis(`d${d}`), e.index(strides[d]))), e.index(0));
  const axes = open.map((d) => ({ name: `d${d}`, extent: shape[d] }));
  const buffers: Buffer[] = [{ name: 'out0', dtype: block.dtype, elements: block.elements, role: 'out' }];
  const body: Stmt[] = [{ kind: 'store', buffer: 'out0', index, value: element }];
  return {
    kernel: { name: 'map', form: { kind: 'map' }, buffers, axes, body },
    operands: [{ value: block.name, role: 'out', storage: { block, offset: 0, shape, strides } }],
    loc: [block.name],
  };
}

function isCorner(part: Tensor, whole: Tensor): boolean {
  if (part.data === whole.data) return true;
  if (part.shape.length !== whole.shape.length || part.shape.some((d, i) => d > whole.shape[i])) return false;
  const strides = rowMajorStrides(whole.shape);
  const compare = (dim: number, from: number, to: number): number => {
    if (dim === part.shape.length) return Object.is(part.data[from], whole.data[to]) ? from + 1 : -1;
    let next = from;
    for (let i = 0; i < part.shape[dim] && next >= 0; i++) next = compare(dim + 1, next, to + i * strides[dim]);
    return next;
  };
  return compare(0, 0, 0) >= 0;
}

class StepMerger {
  readonly #table: SizeTable;
  readonly #block: Block;
  readonly #blockOf: (storages: readonly Storage[]) => Block;
  #loc: readonly string[] = [];
  /** Whether the kernel in work reads the table. */
  #reads = false;
  #ids = new Map<Expr, number>();
  #done = new Map<string, Expr>();

  constructor(table: SizeTable, block: Block, blockOf: (storages: readonly Storage[]) => Block) {
    this.#table = table;
    this.#block = block;
    this.#blockOf = blockOf;
  }

  step(steps: readonly RawStep[]): RawStep {
    const [first] = steps;
    this.#loc = first.loc;
    this.#reads = false;
    this.#ids = new Map();
    this.#done = new Map();
    this.#same(steps.map((s) => s.operands.map((o) => `${o.role} ${o.value}`).join()));
    const operands = first.operands.map(({ value, role }, i): Operand => {
      const { storage } = this.storage(
        steps.map((s) => s.operands[i].storage),
        first.loc,
      );
      return { value, role, storage };
    });
    const kernels = steps.map((s) => s.kernel);
    const buffers = kernels[0].buffers.map((b, i): Buffer => ({ ...b, elements: span(operands[i].storage) }));
    const kernel = this.#kernel(kernels, buffers);
    const loc = first.loc;
    if (!this.#reads) return { kernel, operands, loc };
    const storage: Storage = { block: this.#block, offset: 0, shape: [1], strides: [1] };
    return { kernel, operands: [...operands, { value: TABLE, role: 'in', storage }], loc };
  }

  /** A place in memory with the largest shape, and the shape as formulas. */
  storage(storages: readonly Storage[], loc: readonly string[]): { storage: Storage; dims: readonly Dim[] } {
    this.#loc = loc;
    const [first] = storages;
    this.#same(storages.map((s) => `${s.offset} ${s.block.name} ${s.block.elements}`));
    const dims = first.shape.map((_, d) => this.#fit(storages.map((s) => s.shape[d])));
    const shape: StaticShape = dims.map((dim) => this.#table.atMost(dim));
    shape.forEach((extent, d) => {
      if (extent !== 1) this.#same(storages.map((s) => String(s.strides[d])));
    });
    const shift = this.#fit(storages.map((s) => s.shift ?? 0));
    const block = this.#blockOf(storages);
    const storage = { block, offset: first.offset, shape, strides: first.strides };
    return { storage: shift === 0 ? storage : { ...storage, shift: this.#table.atMost(shift) }, dims };
  }

  #fail(what: string): never {
    throw differ(this.#loc.join('+'), what);
  }

  #same(texts: readonly string[]): void {
    const other = texts.find((text) => text !== texts[0]);
    if (other !== undefined) this.#fail(`what it computes differs between sizes (${texts[0]} and ${other})`);
  }

  #fit(values: readonly number[]): Dim {
    return this.#table.fit(values) ?? this.#fail(`no formula was found for a number that is ${values.join(', ')}`);
  }

  #kernel(kernels: readonly Kernel[], plain: readonly Buffer[]): Kernel {
    const [{ form }] = kernels;
    this.#same(kernels.map((k) => k.form.kind));
    const withTable = (): Buffer[] =>
      this.#reads ? [...plain, { name: TABLE, dtype: 'i32', elements: 1, role: 'in' }] : [...plain];
    if (form.kind === 'contract') {
      const forms = kernels.map((k) => k.form as Contract);
      const axes = this.#axes(forms.map((f) => f.axes));
      const [a, b] = (['a', 'b'] as const).map((which) => this.#access(forms.map((f) => f[which])));
      const epilogue = this.#body(forms.map((f) => f.epilogue));
      const buffers = withTable();
      return contractKernel(kernelName('contract', buffers, axes), buffers, { ...form, axes, a, b, epilogue });
    }
    const axes = this.#axes(kernels.map((k) => k.axes));
    const body = this.#body(kernels.map((k) => k.body));
    const buffers = withTable();
    return { name: kernelName(form.kind, buffers, axes), form, buffers, axes, body };
  }

  #axes<A extends Axis>(lists: readonly (readonly A[])[]): A[] {
    this.#same(lists.map((axes) => axes.map((a) => a.name).join()));
    return lists[0].map((axis, i) => ({ ...axis, ...this.#end(lists.map((axes) => axes[i].extent)) }));
  }

  #end(extents: readonly number[]): Pick<Axis, 'extent' | 'limit'> {
    const dim = this.#fit(extents);
    if (typeof dim === 'number') return { extent: dim };
    return { extent: this.#table.atMost(dim), limit: this.#word(dim) };
  }

  #word(dim: Dim): Expr {
    if (typeof dim === 'number') return e.index(dim);
    this.#reads = true;
    return e.load(TABLE, 'i32', e.index(this.#table.slotOf(dim)));
  }

  #access(accesses: readonly Access[]): Access {
    const [first] = accesses;
    const text = (at: Affine): string => JSON.stringify(at);
    this.#same(accesses.map((a) => a.dims.map((d) => `${text(d.at)} ${d.stride}`).join()));
    const dims = first.dims.map((dim, i) => {
      const padded = accesses.some((a) => a.dims[i].padded);
      const { extent, limit } = this.#end(accesses.map((a) => a.dims[i].extent));
      // Where nothing is padded, the limits of the axes keep the position inside.
      return { ...dim, extent, ...(padded && limit && { limit }), padded };
    });
    return { buffer: first.buffer, dims };
  }

  #body(bodies: readonly (readonly Stmt[])[]): Stmt[] {
    this.#same(bodies.map((body) => String(body.length)));
    return bodies[0].map((_, i) => this.#stmt(bodies.map((body) => body[i])));
  }

  #stmt(stmts: readonly Stmt[]): Stmt {
    const [first] = stmts;
    this.#same(stmts.map((s) => s.kind));
    const all = <K extends Stmt['kind']>(_: K) => stmts as readonly Extract<Stmt, { kind: K }>[];
    switch (first.kind) {
      case 'for':
      case 'scan': {
        const loops = all(first.kind);
        const [axis] = this.#axes(loops.map((s) => [s.axis]));
        const conditions = loops.flatMap((s) => e.conditionOf(s) ?? []);
        this.#same(loops.map((s) => String(e.conditionOf(s) !== undefined)));
        const loop = e.mapCondition(first, () => this.#expr(conditions));
        return { ...loop, axis, body: this.#body(loops.map((s) => s.body)) };
      }
      case 'if': {
        const ifs = all('if');
        return { ...first, cond: this.#expr(ifs.map((s) => s.cond)), body: this.#body(ifs.map((s) => s.body)) };
      }
      case 'let':
        this.#same(all('let').map((s) => s.local));
        return { ...first, value: this.#expr(all('let').map((s) => s.value)) };
      case 'reduce': {
        const reduces = all('reduce');
        this.#same(reduces.map((s) => `${s.local} ${s.op}`));
        return {
          ...first,
          axes: this.#axes(reduces.map((s) => s.axes)),
          value: this.#expr(reduces.map((s) => s.value)),
        };
      }
      case 'store': {
        const stores = all('store');
        this.#same(stores.map((s) => s.buffer));
        return {
          ...first,
          index: this.#expr(stores.map((s) => s.index)),
          value: this.#expr(stores.map((s) => s.value)),
        };
      }
      default:
        return first satisfies never;
    }
  }

  /** One expression for all; shared where the samples share. */
  #expr(xs: readonly Expr[]): Expr {
    const key = xs.map((x) => this.#id(x)).join();
    let out = this.#done.get(key);
    if (!out) {
      out = this.#merge(xs);
      this.#done.set(key, out);
    }
    return out;
  }

  #id(x: Expr): number {
    const id = this.#ids.get(x) ?? this.#ids.size;
    this.#ids.set(x, id);
    return id;
  }

  #merge(xs: readonly Expr[]): Expr {
    const [first] = xs;
    if (xs.every((x) => x.kind === 'const')) return this.#constant(xs);
    this.#same(xs.map(headOf));
    const operands = e.children(first).map((_, i) => this.#expr(xs.map((x) => e.children(x)[i])));
    let next = 0;
    return e.mapChildren(first, () => operands[next++]);
  }

  #constant(xs: readonly Extract<Expr, { kind: 'const' }>[]): Expr {
    const [first] = xs;
    if (xs.every((x) => Object.is(x.value, first.value))) return first;
    const values = xs.map((x) => Number(x.value));
    const whole = this.#table.fit(values);
    if (whole !== undefined && first.dtype !== 'bool') return this.#number(whole, first.dtype);
    const ratio = isFloat(first.dtype) ? this.#table.fitRatio(values) : undefined;
    if (!ratio) return this.#fail(`no formula was found for a constant that is ${values.join(', ')}`);
    const [above, below] = ratio.map((dim) => this.#number(dim, first.dtype));
    return e.div(above, below);
  }

  /** A whole number as an expression of the dtype. */
  #number(dim: Dim, dtype: DType): Expr {
    if (typeof dim === 'number') return e.constant(dtype, isBigInt(dtype) ? BigInt(dim) : dim);
    return e.cast(dtype, this.#word(dim));
  }
}

/** What must be equal of nodes beside their operands. */
function headOf(x: Expr): string {
  switch (x.kind) {
    case 'axis':
    case 'local':
      return `${x.kind} ${x.name}`;
    case 'load':
      return `load ${x.buffer}`;
    case 'unary':
    case 'binary':
      return `${x.op} ${x.dtype}`;
    default:
      return `${x.kind} ${x.dtype}`;
  }
}
