/**
 * Contracts on the ordinary cores, exact in f32 (and i32): a block computes bm × bn of the output, a thread tm × tn of that in registers.
 *
 *     a, b ─registers→ shared memory, k rows of bm and bn, two buffers by turns ─→ fragments ─fma→ sums ─epilogue, 4 columns→ out
 *
 * k runs in steps of 16 a group; `groups` of threads share the k of a step and add up at the end, so that small outputs still have
 * warps enough. Weights are packed as rows of n for each k; other operands are read in vectors along whichever of their
 * axes is contiguous. Rows, columns and k beyond the end, and padding, are zeros; k also beyond a limit. Rows and columns behind a limit
 * are read, as they lie in memory, and not stored; tiles of nothing else end at once.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { PackedAxis, Packing } from '../../engine/engine.ts';
import type { Axis, Kernel } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import type { KernelFacts, Params } from '../target.ts';
import { divideBy, remainderBy } from './divide.ts';
import { BodyEmitter } from './emit-body.ts';
import { ExprEmitter } from './emit-expr.ts';
import { coefOf, extentOf, type GemmOperand, type GemmPlan, type Linear, planGemm } from './gemm-plan.ts';
import { bindPoint } from './generated.ts';
import { beforeLimits, divisorOf, endOf, isPoint } from './limits.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { loadElements } from './registers.ts';
import { CUDA_OPS, scalarCast } from './scalar-ops.ts';
import { beginKernel, bufferArgs, type CudaTemplate, type EmittedKernel, type KernelSite } from './template.ts';

interface Tile {
  readonly bm: number;
  readonly bn: number;
  readonly tm: number;
  readonly tn: number;
  readonly groups: number;
}

/** With the part of the peak that the inner loop reaches: larger fragments load less for each product. */
const TILES: readonly (Tile & { readonly efficiency: number })[] = [
  { bm: 128, bn: 128, tm: 8, tn: 8, groups: 1, efficiency: 0.7 },
  { bm: 128, bn: 64, tm: 8, tn: 4, groups: 1, efficiency: 0.6 },
  { bm: 64, bn: 64, tm: 4, tn: 4, groups: 1, efficiency: 0.45 },
  { bm: 64, bn: 64, tm: 8, tn: 4, groups: 2, efficiency: 0.5 },
  { bm: 32, bn: 64, tm: 4, tn: 4, groups: 2, efficiency: 0.42 },
  { bm: 64, bn: 32, tm: 4, tn: 4, groups: 2, efficiency: 0.42 },
  { bm: 32, bn: 32, tm: 4, tn: 4, groups: 4, efficiency: 0.4 },
  { bm: 16, bn: 32, tm: 2, tn: 4, groups: 4, efficiency: 0.25 },
];
/** k of one step and group. */
const STEP = 16;
const PRODUCTS_PER_NS = 218;
/** A step from asking memory to having computed. */
const STEP_NS = 500;
/** What converting operands to the accumulator's type costs. */
const NARROW_EFFICIENCY = 0.8;
/** Of an element of a tile, beside its products: its address, the epilogue, the store. */
const EPILOGUE_NS = 0.12;
const LAUNCH_NS = 2000;
const MULTIPROCESSORS = 132;

const isTiled = (dtype: DType): boolean => dtype === 'f32' || dtype === 'i32';

function planOf(kernel: Kernel): GemmPlan | undefined {
  const plan = planGemm(kernel);
  if (!plan || !isTiled(plan.form.acc) || plan.m.length === 0 || plan.n.length === 0) return undefined;
  if (extentOf(plan.batch) > 65_535 || kernel.buffers.some((b) => b.elements >= 2 ** 31)) return undefined;
  return plan;
}

export const tiled: CudaTemplate = {
  name: 'tiled',
  form: 'contract',
  candidates: (kernel, facts: KernelFacts) => {
    const plan = planOf(kernel);
    if (!plan) return [];
    const packed = facts.constant.has(plan.b.buffer) ? 1 : 0;
    return TILES.map(({ efficiency: _, ...tile }) => ({ ...tile, packed }));
  },
  predictNs: (kernel, params) => {
    const plan = planOf(kernel)!;
    const { bm, bn, tm, tn, groups } = params;
    const { efficiency } = TILES.find((t) => t.bm === bm && t.bn === bn && t.tm === tm && t.groups === groups)!;
    const tiles = Math.ceil(extentOf(plan.m) / bm) * Math.ceil(extentOf(plan.n) / bn) * extentOf(plan.batch);
    const k = extentOf(plan.k);
    const threads = ((bm * bn) / (tm * tn)) * groups;
    const perProcessor = Math.ceil(tiles / MULTIPROCESSORS);
    const together = Math.max(1, Math.floor(1024 / threads));
    const isNarrow = kernel.buffers.some((b) => b.name === plan.a.buffer && b.dtype !== plan.form.acc);
    const reached = efficiency * (isNarrow ? NARROW_EFFICIENCY : 1);
    const waves = Math.ceil(perProcessor / together);
    const products = (perProcessor * bm * bn * k) / (PRODUCTS_PER_NS * reached) + waves * bm * bn * EPILOGUE_NS;
    const waiting = waves * Math.ceil(k / (STEP * groups)) * STEP_NS;
    return LAUNCH_NS + Math.max(products, waiting);
  },
  tiles: (kernel, { bm, bn }) => {
    const plan = planOf(kernel)!;
    return Math.ceil(extentOf(plan.m) / bm) * Math.ceil(extentOf(plan.n) / bn) * extentOf(plan.batch);
  },
  packing: (kernel, params) => {
    const plan = planOf(kernel)!;
    return new Map<string, Packing>(params.packed ? [[plan.b.buffer, packingOf(plan)]] : []);
  },
  emit: (site) => new TiledEmitter(site, planOf(site.kernel)!).run(),
};

/** For each batch and k a row of n, its length a multiple of 4. */
function packingOf({ batch, k, n, b }: GemmPlan): Packing {
  const along = (axes: readonly Axis[]): PackedAxis[] =>
    axes.map((x) => ({ extent: x.extent, stride: coefOf(b, x.name) }));
  const pitch = Math.ceil(extentOf(n) / 4) * 4;
  return { kind: 'rows', rows: along([...batch, ...k]), k: along(n), offset: b.constant, pitch, tf32: false };
}

/** The operand as it lies after packing. */
function packedOperand({ batch, k, n, b }: GemmPlan): GemmOperand {
  const coefs = new Map<string, number>();
  let stride = 1;
  for (const x of n.toReversed()) {
    coefs.set(x.name, stride);
    stride *= x.extent;
  }
  stride = Math.ceil(stride / 4) * 4;
  for (const x of [...batch, ...k].reverse()) {
    coefs.set(x.name, stride);
    stride *= x.extent;
  }
  return { buffer: b.buffer, coefs, constant: 0, guards: [] };
}

/** One operand's way into shared memory. */
interface Side {
  readonly operand: GemmOperand;
  readonly dtype: DType;
  readonly pointer: Reg;
  readonly alignment: number;
  /** The axes of its rows (m or n), and how many rows a tile has. */
  readonly axes: readonly Axis[];
  readonly rows: number;
  readonly first: Reg;
}

/** What of an element's place does not change with k; parts that are 0 are left out. */
interface RowFacts {
  /** A predicate; absent where every row exists. */
  readonly inside: Reg | undefined;
  readonly offset: Reg | undefined;
  readonly guards: readonly (Reg | undefined)[];
}

/** What a thread copies of a side. */
interface Slots {
  /** Values of a step, held until they are stored. */
  load(kStep: Reg): Reg[];
  store(values: readonly Reg[], buffer: Reg): void;
}

class TiledEmitter {
  readonly #site: KernelSite;
  readonly #plan: GemmPlan;
  readonly #tile: Tile;
  readonly #k: PtxKernel;
  readonly #pointers: ReadonlyMap<string, Reg>;
  readonly #acc: DType;
  readonly #threads: number;
  readonly #bk: number;
  readonly #digits = new Map<string, Reg>();
  readonly #kernel: Kernel;
  readonly #exprs: ExprEmitter;

  constructor(site: KernelSite, plan: GemmPlan) {
    this.#site = site;
    this.#plan = plan;
    this.#tile = tileOf(site.params);
    const { bm, bn, tm, tn, groups } = this.#tile;
    this.#threads = ((bm * bn) / (tm * tn)) * groups;
    this.#bk = STEP * groups;
    this.#acc = plan.form.acc;
    const { code, buffers } = beginKernel(site, this.#threads);
    this.#k = code;
    this.#pointers = new Map(site.kernel.buffers.map((b, i) => [b.name, buffers[i]]));
    this.#kernel = legalizeKernel(site.kernel, CUDA_OPS);
    this.#exprs = new ExprEmitter(code, this.#kernel, buffers, site.alignments);
  }

  run(): EmittedKernel {
    const k = this.#k;
    const { bm, bn } = this.#tile;
    const plan = this.#plan;
    const columns = Math.ceil(extentOf(plan.n) / bn);
    const rows = Math.ceil(extentOf(plan.m) / bm);
    const block = k.special('ctaid.x');
    const firstRow = k.op('mul.lo.s32', divideBy(k, block, columns), bm);
    const firstColumn = k.op('mul.lo.s32', remainderBy(k, block, columns), bn);
    this.#bindBatch();
    this.#leaveEmpty(plan.m, firstRow);
    this.#leaveEmpty(plan.n, firstColumn);
    const sums = this.#mainLoop(firstRow, firstColumn);
    this.#epilogue(sums, firstRow, firstColumn);
    const grid = [rows * columns, extentOf(plan.batch), 1] as const;
    const args = bufferArgs(this.#site.kernel);
    return { launches: [{ code: k, grid, block: [this.#threads, 1, 1], args }], scratchBytes: 0 };
  }

  #bindBatch(): void {
    const { batch } = this.#plan;
    if (batch.length === 0) return;
    const digits = this.#decode(batch, this.#k.special('ctaid.y'));
    for (const [i, reg] of digits.entries()) this.#digits.set(batch[i].name, reg);
    this.#leave(
      beforeLimits(
        this.#k,
        this.#exprs,
        batch.map((axis, i) => ({ axis, at: digits[i] })),
      ),
    );
  }

  /** Ends a block whose rows or columns all lie behind the limit of the outermost of their axes. */
  #leaveEmpty(axes: readonly Axis[], first: Reg): void {
    const end = this.#flatEnd(axes);
    if (end) this.#leave(this.#k.op('setp.lt.s32', first, end));
  }

  /** Ends a block, before its first barrier, where the predicate does not hold. */
  #leave(unless: Reg | undefined): void {
    if (unless) this.#k.if(this.#k.op('not.pred', unless), () => this.#k.exit());
  }

  /** Where the flat index of the axes ends, if the outermost of them has a limit. */
  #flatEnd([outer, ...inner]: readonly Axis[]): Reg | undefined {
    if (!outer?.limit) return undefined;
    return this.#k.op('mul.lo.s32', endOf(this.#exprs, outer) as Reg, extentOf(inner));
  }

  /** Digits of a flat index, outermost axis first. */
  #decode(axes: readonly Axis[], flat: Reg): Reg[] {
    const digits: Reg[] = [];
    let rest = flat;
    for (let i = axes.length - 1; i > 0; i--) {
      digits.unshift(remainderBy(this.#k, rest, axes[i].extent));
      rest = divideBy(this.#k, rest, axes[i].extent);
    }
    return axes.length === 0 ? [] : [rest, ...digits];
  }

  /** Σ coef·digit of the axes that have one, plus `sum`. */
  #linear(form: Linear, axes: readonly Axis[], digits: readonly Reg[], sum: Reg | undefined): Reg | undefined {
    return axes.reduce((total, axis, i) => {
      const coef = coefOf(form, axis.name);
      if (coef === 0) return total;
      return total ? this.#k.op('mad.lo.s32', digits[i], coef, total) : this.#k.op('mul.lo.s32', digits[i], coef);
    }, sum);
  }

  #side(operand: GemmOperand, axes: readonly Axis[], rows: number, first: Reg): Side {
    const at = this.#site.kernel.buffers.findIndex((b) => b.name === operand.buffer);
    const { dtype } = this.#site.kernel.buffers[at];
    const pointer = this.#pointers.get(operand.buffer)!;
    return { operand, dtype, pointer, alignment: this.#site.alignments[at], axes, rows, first };
  }

  /** The widest vector that the side can be read in, and along what. */
  #vectorOf({ operand, dtype, alignment, axes, rows }: Side): { vector: number; along: 'row' | 'k' } {
    const { bytes } = DTYPES[dtype];
    const others = (inner: Axis): Axis[] =>
      [...this.#plan.batch, ...axes, ...this.#plan.k].filter((x) => x.name !== inner.name);
    const fits = (inner: Axis | undefined, vector: number): boolean =>
      inner !== undefined &&
      coefOf(operand, inner.name) === 1 &&
      divisorOf(inner) % vector === 0 &&
      operand.constant % vector === 0 &&
      alignment % (vector * bytes) === 0 &&
      operand.guards.every((g) => coefOf(g, inner.name) === 0) &&
      others(inner).every((x) => coefOf(operand, x.name) % vector === 0);
    const inRow = axes.at(-1);
    const inK = this.#plan.k.at(-1);
    const isPadded = operand === this.#packed;
    for (const vector of [4, 2]) {
      if ((rows * this.#bk) / vector / this.#threads < 1) continue;
      // A packed row is padded with zeros to whole vectors.
      if (isPadded || fits(inRow, vector)) return { vector, along: 'row' };
      if (fits(inK, vector)) return { vector, along: 'k' };
    }
    const alongK = inK && coefOf(operand, inK.name) === 1 && !(inRow && coefOf(operand, inRow.name) === 1);
    return { vector: 1, along: alongK ? 'k' : 'row' };
  }

  #packed: GemmOperand | undefined;

  #slots(side: Side, shared: Reg, pitch: number): Slots {
    const k = this.#k;
    const { vector, along } = this.#vectorOf(side);
    const { rows } = side;
    const bk = this.#bk;
    const perLine = (along === 'row' ? rows : bk) / vector;
    const lines = along === 'row' ? bk : rows;
    const count = (perLine * lines) / this.#threads;
    const tid = k.special('tid.x');
    const place = k.op('mul.lo.s32', remainderBy(k, tid, perLine), vector);
    const line = divideBy(k, tid, perLine);
    const lineStep = this.#threads / perLine;
    const parts = Array.from({ length: count }, (_, i) => {
      const at = k.op('add.s32', line, i * lineStep);
      return along === 'row' ? { row: place, inStep: at } : { row: at, inStep: place };
    });
    const rowFacts = parts.map(({ row }) => this.#rowFacts(side, k.op('add.s32', side.first, row)));
    const load = (kStep: Reg): Reg[] =>
      parts.flatMap(({ inStep }, i) => this.#loadSlot(side, rowFacts[i], k.op('add.s32', kStep, inStep), vector));
    const store = (values: readonly Reg[], buffer: Reg): void => {
      parts.forEach(({ row, inStep }, i) => {
        const base = k.op('add.s32', buffer, shared);
        const index = k.op('mad.lo.s32', inStep, pitch, row);
        const address = k.op('mad.lo.s32', index, 4, base);
        const own = values.slice(i * vector, (i + 1) * vector);
        if (along === 'row') k.store('shared', this.#memory, k.at(address), own);
        else for (const [j, reg] of own.entries()) k.store('shared', this.#memory, k.at(address, j * pitch * 4), [reg]);
      });
    };
    return { load, store };
  }

  get #memory(): 'f32' | 'b32' {
    return this.#acc === 'f32' ? 'f32' : 'b32';
  }

  /** What does not change with k: the row's part of the offset and of each guard, and whether it exists. */
  #rowFacts(side: Side, row: Reg): RowFacts {
    const k = this.#k;
    const { operand, axes } = side;
    const total = extentOf(axes);
    const { batch } = this.#plan;
    const batchDigits = batch.map((x) => this.#digits.get(x.name)!);
    const isPadded = operand === this.#packed;
    const limit = isPadded ? Math.ceil(total / 4) * 4 : total;
    const inside = limit % side.rows === 0 ? undefined : k.op('setp.lt.s32', row, limit);
    const digits = isPadded && axes.length === 1 ? [row] : this.#decode(axes, row);
    const start = this.#linear(operand, batch, batchDigits, undefined);
    return {
      inside,
      offset: this.#linear(operand, axes, digits, start),
      guards: operand.guards.map((guard) =>
        this.#linear(guard, axes, digits, this.#linear(guard, batch, batchDigits, undefined)),
      ),
    };
  }

  #loadSlot({ operand, dtype, pointer }: Side, facts: RowFacts, kIndex: Reg, vector: number): Reg[] {
    const k = this.#k;
    const { bytes } = DTYPES[dtype];
    const total = extentOf(this.#plan.k);
    let pred: Reg | undefined = facts.inside;
    const require = (p: Reg): void => {
      pred = pred ? k.op('and.pred', pred, p) : p;
    };
    // The last turn asks for a step that is not there.
    require(k.op('setp.lt.s32', kIndex, total));
    const digits = this.#decode(this.#plan.k, kIndex);
    const before = beforeLimits(
      k,
      this.#exprs,
      this.#plan.k.map((axis, i) => ({ axis, at: digits[i] })),
    );
    if (before) require(before);
    operand.guards.forEach((guard, i) => {
      const at = this.#linear(guard, this.#plan.k, digits, facts.guards[i]);
      const shifted = at ? k.op('add.s32', at, guard.constant) : k.op('mov.u32', guard.constant);
      require(k.op('setp.lt.u32', shifted, endOf(this.#exprs, guard)));
    });
    const offset = this.#linear(operand, this.#plan.k, digits, facts.offset);
    const base = offset ? k.op('mad.wide.s32', offset, bytes, pointer) : pointer;
    const guard = pred && { pred, fill: 0 };
    const values = loadElements(k, 'global.nc', dtype, k.at(base, operand.constant * bytes), vector, guard);
    return values.map((reg) => scalarCast(k, dtype, this.#acc, reg));
  }

  #mainLoop(firstRow: Reg, firstColumn: Reg): Reg[][] {
    const k = this.#k;
    const plan = this.#plan;
    const { bm, bn, tm, tn, groups } = this.#tile;
    const bk = this.#bk;
    const [pitchA, pitchB] = [bm + 4, bn];
    const bytes = bk * (pitchA + pitchB) * 4;
    const shared = k.shared(
      Math.max(2 * bytes, groups > 1 ? (groups - 1) * (this.#threads / groups) * tm * tn * 4 : 0),
    );
    this.#shared = shared;
    const sharedB = k.op('add.s32', shared, bk * pitchA * 4);
    this.#packed = this.#site.params.packed ? packedOperand(plan) : undefined;
    const a = this.#slots(this.#side(plan.a, plan.m, bm, firstRow), shared, pitchA);
    const b = this.#slots(this.#side(this.#packed ?? plan.b, plan.n, bn, firstColumn), sharedB, pitchB);
    const zero = k.op('mov.u32', 0);
    a.store(a.load(zero), zero);
    b.store(b.load(zero), zero);
    const buffer = k.reg('b32');
    k.move(buffer, 0);
    const acc = Array.from({ length: tm }, () => Array.from({ length: tn }, () => this.#zero()));
    const { ty, tx, group } = this.#place();
    const row = k.op('mad.lo.s32', ty, 16, k.op('mad.lo.s32', group, STEP * pitchA * 4, shared));
    const column = k.op('mad.lo.s32', tx, 16, k.op('mad.lo.s32', group, STEP * pitchB * 4, sharedB));
    const smallRow =
      tm < 4 ? k.op('mad.lo.s32', ty, tm * 4, k.op('mad.lo.s32', group, STEP * pitchA * 4, shared)) : row;
    const steps = Math.ceil(extentOf(plan.k) / bk);
    k.do('bar.sync', 0);
    k.loop(0, this.#flatEnd(plan.k) ?? steps * bk, bk, (i) => {
      const at = k.op('mov.b32', buffer);
      const next = k.op('add.s32', i, bk);
      const [nextA, nextB] = [a.load(next), b.load(next)];
      const from = { a: k.op('add.s32', smallRow, at), b: k.op('add.s32', column, at) };
      for (let kk = 0; kk < STEP; kk++) {
        const left = this.#fragment(from.a, kk * pitchA * 4, tm, bm);
        const right = this.#fragment(from.b, kk * pitchB * 4, tn, bn);
        for (let r = 0; r < tm; r++) for (let c = 0; c < tn; c++) this.#multiplyAdd(acc[r][c], left[r], right[c]);
      }
      k.to(buffer, 'xor.b32', buffer, bytes);
      const other = k.op('mov.b32', buffer);
      a.store(nextA, other);
      b.store(nextB, other);
      k.do('bar.sync', 0);
    });
    return this.#addGroups(acc.map((line) => line.map((reg) => k.op(`mov.${reg.type}`, reg))));
  }

  #shared: Reg | undefined;

  #zero(): Reg {
    const reg = this.#k.reg(this.#memory);
    this.#k.move(reg, 0);
    return reg;
  }

  #multiplyAdd(acc: Reg, a: Reg, b: Reg): void {
    this.#k.to(acc, this.#acc === 'f32' ? 'fma.rn.f32' : 'mad.lo.s32', a, b, acc);
  }

  /** Neighbouring values of a row of k: 4 at the thread's place, 4 more half a tile further. */
  #fragment(base: Reg, byteOffset: number, count: number, extent: number): Reg[] {
    const k = this.#k;
    if (count <= 4) return k.load('shared', this.#memory, k.at(base, byteOffset), count);
    return [0, 1].flatMap((half) =>
      k.load('shared', this.#memory, k.at(base, byteOffset + (half * extent * 4) / 2), 4),
    );
  }

  #place(): { tx: Reg; ty: Reg; group: Reg } {
    const k = this.#k;
    const { bm, bn, tm, tn } = this.#tile;
    const tid = k.special('tid.x');
    const perGroup = (bm * bn) / (tm * tn);
    const inGroup = remainderBy(k, tid, perGroup);
    const across = bn / tn;
    return { tx: remainderBy(k, inGroup, across), ty: divideBy(k, inGroup, across), group: divideBy(k, tid, perGroup) };
  }

  /** The sums of all groups in those of the first; the others end here. */
  #addGroups(acc: Reg[][]): Reg[][] {
    const { groups, tm, tn, bm, bn } = this.#tile;
    if (groups === 1) return acc;
    const k = this.#k;
    const perGroup = (bm * bn) / (tm * tn);
    const { group } = this.#place();
    const inGroup = remainderBy(k, k.special('tid.x'), perGroup);
    const base = k.op('mad.lo.s32', inGroup, 4, this.#shared!);
    const isFirst = k.op('setp.eq.u32', group, 0);
    const flat = acc.flat();
    const slot = (i: number): number => i * perGroup * 4;
    k.if(k.op('not.pred', isFirst), () => {
      const own = k.op('mad.lo.s32', k.op('sub.s32', group, 1), flat.length * perGroup * 4, base);
      for (const [i, reg] of flat.entries()) k.store('shared', this.#memory, k.at(own, slot(i)), [reg]);
    });
    k.do('bar.sync', 0);
    k.if(k.op('not.pred', isFirst), () => k.exit());
    const sums = flat.map((reg, i) => {
      let sum = reg;
      for (let g = 0; g < groups - 1; g++) {
        const [part] = k.load('shared', this.#memory, k.at(base, slot(i) + g * flat.length * perGroup * 4));
        sum = k.op(this.#acc === 'f32' ? 'add.f32' : 'add.s32', sum, part);
      }
      return sum;
    });
    return acc.map((_, r) => sums.slice(r * tn, (r + 1) * tn));
  }

  /** The kernel's epilogue on each row of a thread, four columns at a time where they are neighbours. */
  #epilogue(sums: readonly (readonly Reg[])[], firstRow: Reg, firstColumn: Reg): void {
    const k = this.#k;
    const { bm, bn, tm, tn } = this.#tile;
    const kernel = this.#kernel;
    const exprs = this.#exprs;
    const { form } = kernel;
    if (form.kind !== 'contract') return;
    const role = (r: string): Axis[] => form.axes.filter((a) => a.role === r);
    const [m, n, batch] = [role('m'), role('n'), role('batch')];
    const { tx, ty } = this.#place();
    const [rows, columns] = [extentOf(m), extentOf(n)];
    if (batch.length > 0) bindPoint(k, exprs, batch, k.special('ctaid.y'), 1);
    const [outer, inner] = [m, n].map((axes) => axes.filter((a) => !isPoint(a)));
    const last = inner.at(-1);
    const lanes = last && divisorOf(last) % 4 === 0 ? 4 : 1;
    for (const a of [...m, ...n]) if (isPoint(a)) exprs.bindAxis(a, { offset: 0 });
    for (let r = 0; r < tm; r++) {
      const row = k.op('mad.lo.s32', ty, Math.min(tm, 4), k.op('add.s32', firstRow, r < 4 ? r : bm / 2 + r - 4));
      for (let c = 0; c < tn; c += lanes) {
        const from = k.op('mad.lo.s32', tx, 4, k.op('add.s32', firstColumn, c < 4 ? c : bn / 2 + c - 4));
        const unit = lanes === 1 ? from : divideBy(k, from, lanes);
        const checks = [
          ...(rows % bm === 0 ? [] : [k.op('setp.lt.s32', row, rows)]),
          ...(columns % bn === 0 ? [] : [k.op('setp.lt.s32', from, columns)]),
        ];
        const store = (): void =>
          exprs.scope(() =>
            exprs.withLanes(lanes, () => {
              const inside = [bindPoint(k, exprs, outer, row, 1), bindPoint(k, exprs, inner, unit, lanes)].filter(
                (p) => p !== undefined,
              );
              exprs.bindLocal('acc', sums[r].slice(c, c + lanes));
              const body = (): void => new BodyEmitter(k, kernel, exprs).body(form.epilogue);
              if (inside.length === 0) body();
              else
                k.if(
                  inside.reduce((x, y) => k.op('and.pred', x, y)),
                  () => exprs.scope(body),
                );
            }),
          );
        if (checks.length === 0) store();
        else
          k.if(
            checks.reduce((x, y) => k.op('and.pred', x, y)),
            store,
          );
      }
    }
  }
}

const tileOf = ({ bm, bn, tm, tn, groups }: Params): Tile => ({ bm, bn, tm, tn, groups });
