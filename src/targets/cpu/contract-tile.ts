/**
 * The register tile of a matrix product: sums of rows × vectors in registers over all of k, then the epilogue.
 *
 * a is read by splats through one pointer a row, so any layout of it will do; rows that lie a constant distance apart share one
 * pointer and differ in the immediate. A row that a window's guard cuts off reads zeros behind the packed panels. Tiles are as large as the
 * registers hold with all operands of one k step live: V8 schedules a block's loads before its arithmetic, so unrolling k only spills.
 */
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import type { Asm, Reg } from './asm.ts';
import { type ByteDot, emitByteSteps } from './byte-steps.ts';
import { runAxis } from './contract-blocking.ts';
import { type ContractPlan, conjuncts, hasLimit, type Operand, unpadded } from './contract-plan.ts';
import type { ExprEmitter } from './emit-expr.ts';
import { laneScore } from './lanes.ts';
import type { Scopes } from './scopes.ts';
import { unrollOf } from './vector-machine.ts';
import { exprMapper, localKey } from './walk.ts';

/**
 * Where b comes from: packed panels; its own buffer, contiguous along n; or its own buffer in any arrangement, of which each panel is
 * gathered into scratch before the rows of a block pass over it.
 */
export type PanelSource =
  | { readonly kind: 'packed' }
  /** Packed panels of bytes, of which each step of k takes a few. */
  | { readonly kind: 'bytes'; readonly dot: ByteDot }
  | { readonly kind: 'direct' }
  | { readonly kind: 'gathered'; readonly scratch: Reg };

/** Registers by row, then by vector of columns. */
type Accumulators = readonly (readonly Reg[])[];

/** Runs of k below this are worth a loop nest without guards for tiles inside. */
const SHORT_RUN = 16;

/** Runs of k from which on it is worth to ask whether any row is inside. */
const LONG_RUN = 32;

/** A register tile: its rows and columns, and the code that differs by its size. */
export interface TileShape {
  readonly rows: number;
  readonly columns: number;
}

/** The first rows of a tile that another tile has done already, where `isRepeat` holds. */
export interface Repeated {
  readonly rows: number;
  readonly isRepeat: Reg;
}

/** The rows of a tile, as code that binds their coordinates. */
export interface Rows {
  /** For each row of a tile, what gives the m axes its coordinates. */
  readonly each: readonly (() => void)[];
  /** Those of which a comparison of linear forms holds only if it holds of all. */
  readonly ends: readonly (() => void)[];
}

/** a and k as one version of the summing loops sees them: with the guard, or where it is known to hold. */
interface View {
  readonly a: Operand;
  /** k axes of the outer loops, and the one of the hot loop. */
  readonly outerK: readonly Axis[];
  readonly run: Axis | undefined;
}

export class TileEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: ContractPlan;
  readonly #source: PanelSource;
  readonly #width: number;
  readonly #n: Axis;
  readonly #view: View;
  /** Of the sums. */
  readonly #acc: 'f32' | 'i32';
  /** For tiles whose window is inside everywhere, where the guard would cost much: each run of k is short. */
  readonly #interior: View | undefined;
  readonly #epilogueInLanes: boolean;
  /** Address of zeros behind the packed panels. */
  readonly #zeros: Reg | undefined;

  constructor(
    exprs: ExprEmitter,
    kernel: Kernel,
    plan: ContractPlan,
    width: number,
    source: PanelSource,
    zeros: Reg | undefined,
  ) {
    this.#asm = exprs.asm;
    this.#exprs = exprs;
    this.#scopes = exprs.scopes;
    this.#plan = plan;
    this.#source = source;
    this.#width = width;
    this.#zeros = zeros;
    this.#n = plan.n[0];
    this.#view = viewOf(plan);
    this.#acc = source.kind === 'bytes' ? 'i32' : 'f32';
    const isShort = (this.#view.run?.extent ?? 1) < SHORT_RUN;
    const isBox =
      !hasLimit(plan.k) &&
      conjuncts(plan.a.guard).every((g) => plan.k.filter((k) => this.#dependsOn(g, k)).length <= 1);
    if (plan.a.guard && isShort && isBox && source.kind !== 'bytes') this.#interior = viewOf(unpadded(plan));
    const facts = { table: this.#exprs.table, buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
    const accIsVector: Stmt = {
      kind: 'let',
      local: 'acc',
      dtype: this.#acc,
      value: e.cast(this.#acc, e.axis(this.#n.name)),
    };
    this.#epilogueInLanes = laneScore(facts, [accIsVector, ...plan.epilogue], this.#n.name) !== undefined;
  }

  #dependsOn(x: Expr, axis: Axis): boolean {
    return this.#exprs.table.info(x).free.includes(axis.name);
  }

  /** The register of an axis's end. */
  #endOf(axis: Axis): Reg {
    return this.#exprs.value(e.boundOf(axis));
  }

  /** The tile of `rows` against a panel that lies at `packed`. */
  emit(shape: TileShape, packed: Reg, rows: Rows, repeated: Repeated | undefined): void {
    const asm = this.#asm;
    const vectors = Math.ceil(shape.columns / asm.lanes);
    const type = `v${this.#acc}` as const;
    const { starts, width } = this.#source.kind === 'bytes' ? this.#source.dot.packing : { starts: false, width: 0 };
    const first = Array.from({ length: vectors }, (_, v) =>
      starts ? asm.load('vi32', packed, v * asm.lanes * 4) : asm.const(type, 0),
    );
    const acc = Array.from({ length: shape.rows }, () =>
      first.map((start) => {
        const reg = asm.reg(type);
        asm.move(reg, start);
        return reg;
      }),
    );
    const b = asm.reg('ptr');
    asm.move(b, packed);
    if (starts) this.#bump(b, width * 4);
    const sum = (view: View): void => this.#outerLoops(view, view.outerK, rows, shape, b, acc);
    const { guard } = this.#plan.a;
    if (this.#interior && guard) {
      const interior = this.#interior;
      asm.if(
        this.#isInside(guard, rows),
        () => this.#scopes.scope(() => sum(interior)),
        () => this.#scopes.scope(() => sum(this.#view)),
      );
    } else sum(this.#view);
    const done = repeated ? repeated.rows : 0;
    if (repeated) {
      const isNew = asm.op('eq', [repeated.isRepeat, asm.const('i32', 0)]);
      asm.if(isNew, () => this.#scopes.scope(() => this.#finish(shape, rows, acc, 0, done)));
    }
    this.#finish(shape, rows, acc, done, shape.rows);
  }

  /** Whether the guard holds for every row and tap: each condition moves with one axis of k, so its first and last corner decide. */
  #isInside(guard: Expr, rows: Rows): Reg {
    const corners = [() => 0, (axis: Axis) => axis.extent - 1].map((at) => {
      const values = new Map(this.#plan.k.map((axis) => [axis.name, e.index(at(axis))]));
      return exprMapper((x) => (x.kind === 'axis' && values.get(x.name)) || x);
    });
    const conditions = corners.flatMap((corner) => this.#ofRows(rows.ends, corner(guard)));
    return conditions.reduce((x, y) => this.#asm.op('and', [x, y]));
  }

  /** The value of an expression in each row. */
  #ofRows(rows: Rows['each'], x: Expr): Reg[] {
    return rows.map((select) => {
      select();
      return this.#exprs.value(x);
    });
  }

  /** Loops over taps and whatever else of k is not the hot loop; what they do not change is computed before them. */
  #outerLoops(view: View, axes: readonly Axis[], rows: Rows, shape: TileShape, b: Reg, acc: Accumulators): void {
    const asm = this.#asm;
    const names = [...axes, ...(view.run ? [view.run] : [])].map((a) => a.name);
    this.#prepare(view, rows, names);
    if (axes.length === 0) {
      this.#run(view, rows, shape, b, acc);
      return;
    }
    asm.loop(asm.const('i32', 0), this.#endOf(axes[0]), 1, (i) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(axes[0].name, { kind: 'register', reg: i });
        this.#outerLoops(view, axes.slice(1), rows, shape, b, acc);
      }),
    );
  }

  /** A run of k, unless it is long and all rows are outside: near the border, and everywhere in a window wider than its input. */
  #run(view: View, rows: Rows, shape: TileShape, b: Reg, acc: Accumulators): void {
    const asm = this.#asm;
    const length = view.run?.extent ?? 1;
    const { guard } = view.a;
    const hot = (): void => this.#hotLoop(view, rows, shape, b, acc);
    // What starts make up for is summed over all of k, zeros too.
    const hasStarts = this.#source.kind === 'bytes' && this.#source.dot.packing.starts;
    if (!guard || length < LONG_RUN || this.#source.kind === 'direct' || hasStarts) {
      hot();
      return;
    }
    const someInside = this.#ofRows(rows.each, guard).reduce((x, y) => asm.op('or', [x, y]));
    asm.if(
      someInside,
      () => this.#scopes.scope(hot),
      () => this.#bump(b, this.#runBytes(length)),
    );
  }

  #runBytes(length: number): number {
    if (this.#source.kind !== 'bytes') return length * this.#width * 4;
    const { step, width } = this.#source.dot.packing;
    return Math.ceil(length / step) * step * width;
  }

  /** Computes what a step of k reads by, as far as `changing` axes do not change it. */
  #prepare({ a: { buffer, dtype, index, guard } }: View, rows: Rows, changing: readonly string[]): void {
    const read = (value: Expr): Stmt => ({ kind: 'let', local: '', dtype: value.dtype, value });
    const element = e.load(buffer, dtype, index);
    const ofA = guard ? [read(guard), read(e.select(guard, element, e.constant(dtype, 0)))] : [read(element)];
    for (const select of rows.each) {
      select();
      this.#exprs.prepare(ofA, changing);
    }
    const { b } = this.#plan;
    if (this.#source.kind === 'direct') this.#exprs.prepare([read(e.load(b.buffer, 'f32', b.index))], changing);
  }

  /** The innermost k axis: one splat a row, one load a vector of b, rows × vectors multiply-adds. */
  #hotLoop(view: View, rows: Rows, shape: TileShape, packed: Reg, acc: Accumulators): void {
    const asm = this.#asm;
    const { run } = view;
    if (run) this.#scopes.bind(run.name, { kind: 'constant', value: 0 });
    const moving = new Map<number, Reg>();
    const pointers = rows.each.map((select) => {
      select();
      const { base, byteOffset } = this.#rowAddress(view.a);
      const pointer = moving.get(base.id) ?? this.#pointer(base);
      moving.set(base.id, pointer);
      return { pointer, byteOffset };
    });
    if (this.#source.kind === 'bytes') {
      emitByteSteps(asm, this.#source.dot, { rows: pointers, moving: [...moving.values()], panel: packed }, acc);
      return;
    }
    const direct = this.#source.kind === 'direct' ? this.#directPanel(run) : undefined;
    const b = direct?.pointer ?? packed;
    const bBytes = direct?.stepBytes ?? this.#width * 4;
    const bOffset = direct?.byteOffset ?? 0;
    const aBytes = run ? (this.#exprs.table.strideAlong(view.a.index, run.name) ?? 0) * 4 : 0;
    const step = (k: number): void => {
      const vectors = acc[0].map((_, v) => {
        const column = v * asm.lanes;
        const width = direct ? Math.min(asm.lanes, shape.columns - column) : asm.lanes;
        return this.#loadPart(b, bOffset + k * bBytes + column * 4, width);
      });
      pointers.forEach(({ pointer, byteOffset }, row) => {
        const splat = asm.load('splatf32', pointer, byteOffset + k * aBytes);
        vectors.forEach((vector, v) => {
          asm.fma(acc[row][v], splat, vector);
        });
      });
    };
    const steps = (count: number): void => {
      for (let k = 0; k < count; k++) step(k);
      if (aBytes !== 0) for (const p of moving.values()) this.#bump(p, count * aBytes);
      if (bBytes !== 0) this.#bump(b, count * bBytes);
    };
    if (!run || (run.extent === 1 && !run.limit)) {
      steps(1);
      return;
    }
    const unroll = run.limit ? 1 : unrollOf(asm.lanes, acc.length * acc[0].length, run.extent);
    asm.loop(asm.const('i32', 0), this.#endOf(run), unroll, () => this.#scopes.scope(() => steps(unroll)));
  }

  #bump(pointer: Reg, bytes: number): void {
    this.#asm.op('add', [pointer, this.#asm.const('ptr', bytes)], pointer);
  }

  #pointer(from: Reg): Reg {
    const out = this.#asm.reg('ptr');
    this.#asm.move(out, from);
    return out;
  }

  #rowAddress({ buffer, index, guard }: Operand): { base: Reg; byteOffset: number } {
    const { asm } = this.#exprs;
    const address = this.#exprs.address(buffer, index);
    if (!guard || !this.#zeros) return address;
    const base =
      address.byteOffset === 0 ? address.base : asm.address(address.base, asm.const('i32', address.byteOffset), 1);
    return { base: asm.select(this.#exprs.value(guard), base, this.#zeros), byteOffset: 0 };
  }

  #directPanel(run: Axis | undefined) {
    const { b } = this.#plan;
    const { base, byteOffset } = this.#exprs.address(b.buffer, b.index);
    const stepBytes = run ? (this.#exprs.table.strideAlong(b.index, run.name) ?? 0) * 4 : 0;
    return { pointer: this.#pointer(base), byteOffset, stepBytes };
  }

  /** The first `count` lanes from memory, without touching what lies behind them. */
  #loadPart(base: Reg, byteOffset: number, count: number): Reg {
    const asm = this.#asm;
    if (count === asm.lanes) return asm.load('vf32', base, byteOffset);
    let out = asm.const('vf32', 0);
    for (let lane = 0; lane < count; lane++) {
      out = asm.insert(out, lane, asm.load('f32', base, byteOffset + lane * 4));
    }
    return out;
  }

  /** The epilogue of rows [from, to), on vectors where it allows, element by element where it does not and behind the last full vector. */
  #finish(shape: TileShape, rows: Rows, acc: Accumulators, from: number, to: number): void {
    const { lanes } = this.#asm;
    const { epilogue } = this.#plan;
    acc.slice(from, to).forEach((vectors, i) => {
      rows.each[from + i]();
      vectors.forEach((sum, v) => {
        const count = Math.min(lanes, shape.columns - v * lanes);
        this.#scopes.shift(this.#n.name, v * lanes);
        if (count === lanes && this.#epilogueInLanes) {
          this.#scopes.bind(localKey('acc'), { kind: 'register', reg: sum });
          this.#statements(epilogue);
        } else this.#finishLanes(epilogue, sum, v * lanes, count);
      });
    });
    this.#scopes.shift(this.#n.name, 0);
  }

  #finishLanes(epilogue: readonly Stmt[], sum: Reg, column: number, count: number): void {
    const asm = this.#asm;
    const binding = this.#scopes.binding(this.#n.name);
    if (binding?.kind !== 'lanes') return;
    const saved = this.#scopes.save([this.#n.name]);
    for (let lane = 0; lane < count; lane++) {
      const at = asm.op('add', [binding.base, asm.const('i32', column + lane)]);
      this.#scopes.bind(this.#n.name, { kind: 'register', reg: at });
      this.#scopes.bind(localKey('acc'), { kind: 'register', reg: asm.extract(sum, lane) });
      this.#statements(epilogue);
    }
    this.#scopes.restore(saved);
  }

  #statements(body: readonly Stmt[]): void {
    for (const s of body) {
      if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
      else if (s.kind === 'let') {
        const reg = this.#exprs.value(s.value);
        this.#scopes.bind(localKey(s.local), { kind: 'register', reg });
      }
    }
  }
}

function viewOf(plan: ContractPlan): View {
  const run = runAxis(plan);
  return { a: plan.a, outerK: plan.k.filter((axis) => axis !== run), run };
}
