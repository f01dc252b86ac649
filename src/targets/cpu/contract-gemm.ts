/**
 * Contracts as matrix products: register tiles of `rows` × `vectors` accumulators, b in panels of `width` columns.
 *
 *     for panel of n:  for tile of m:  acc = 0
 *                                      for outer k (taps of a window …):  row pointers, or zeros where a row is outside
 *                                        for run of k:  acc[r][v] += a[row r][k] · b[panel][k][v]
 *                                      epilogue(acc)
 *
 * a is read by splats through one pointer a row, so any layout of it will do; rows that lie a constant distance apart share one
 * pointer and differ in the immediate. b is a packed constant (`panels`), any operand that is contiguous along n (`direct`), or any other (`gathered`).
 * Tiles are as large as the registers hold with all operands of one k step live: V8 schedules a block's loads before its
 * arithmetic, so unrolling k only spills.
 *
 * Where an axis has a limit: panels behind it are skipped, and a tile may reach over the limit of n as far as the extent: nobody reads
 * what it stores there. Rows are counted and cut into blocks without what lies behind a limit, and the last few of a block are done by ever
 * smaller tiles. The layered loops follow Goto and van de Geijn (2008), the window view implicit GEMM.
 */

import { packedPanelBytes } from '../../engine/engine.ts';
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { type ByteDot, emitByteSteps } from './byte-steps.ts';
import { type Blocking, blockContract, blockPresent, type PresentBlocking, runAxis } from './contract-blocking.ts';
import { type ContractPlan, conjuncts, extentOf, hasLimit, type Operand, unpadded } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import { laneScore } from './lanes.ts';
import { coordinates, divideUp, presentRange, type TileRange } from './present-tiles.ts';
import type { Scopes } from './scopes.ts';
import { eachExpr, exprMapper, localKey } from './walk.ts';

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

export function emitGemm(asm: Asm, kernel: Kernel, plan: ContractPlan, params: Params, source: PanelSource): void {
  new GemmEmitter(asm, kernel, plan, params, source).run();
}

/** Registers by row, then by vector of columns. */
type Accumulators = readonly (readonly Reg[])[];

/** Rows computed twice are at most one in so many; for fewer, code for a smaller tile is spared. */
const OVERLAP_PART = 32;

/** Runs of k below this are worth a loop nest without guards for tiles inside. */
const SHORT_RUN = 16;

const GATHERED_AT_ONCE = 4;

/** Runs of k from which on it is worth to ask whether any row is inside. */
const LONG_RUN = 32;

/** A register tile: its rows and columns, and the code that differs by its size. */
interface TileShape {
  readonly rows: number;
  readonly columns: number;
}

/** The first rows of a tile that another tile has done already, where `isRepeat` holds. */
interface Repeated {
  readonly rows: number;
  readonly isRepeat: Reg;
}

/** a and k as one version of the summing loops sees them: with the guard, or where it is known to hold. */
interface View {
  readonly a: Operand;
  /** k axes of the outer loops, and the one of the hot loop. */
  readonly outerK: readonly Axis[];
  readonly run: Axis | undefined;
}

/** The tiles of a call, and how they are numbered; 1 where that is known. */
interface Share extends TileRange, Pick<PresentBlocking, 'rowsInBlock' | 'panelsInBlock'> {
  readonly mBlocks: Reg | 1;
  readonly nBlocks: Reg | 1;
}

interface Rows {
  /** For each row of a tile, what gives the m axes its coordinates. */
  readonly each: readonly (() => void)[];
  /** Those of which a comparison of linear forms holds only if it holds of all. */
  readonly ends: readonly (() => void)[];
}

class GemmEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: ContractPlan;
  readonly #params: Params;
  readonly #blocking: Blocking;
  readonly #source: PanelSource;
  readonly #n: Axis;
  readonly #m: number;
  readonly #view: View;
  /** Of the sums. */
  readonly #acc: 'f32' | 'i32';
  /** For tiles whose window is inside everywhere, where the guard would cost much: each run of k is short. */
  readonly #interior: View | undefined;
  readonly #epilogueInLanes: boolean;
  /** Whether the epilogue reads what may lie where it stores: then no row may be stored twice. */
  readonly #storesOnce: boolean;
  /** Address of zeros behind the packed panels. */
  #zeros: Reg | undefined;

  constructor(asm: Asm, kernel: Kernel, plan: ContractPlan, params: Params, source: PanelSource) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#params = params;
    this.#blocking = blockContract(plan, params);
    this.#source = source;
    this.#n = plan.n[0];
    this.#m = extentOf(plan.m);
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
    const rowNames = plan.m.map(({ name }) => name);
    let readsRows = false;
    eachExpr(plan.epilogue, (x) => {
      readsRows ||= x.kind === 'load' && this.#exprs.table.dependsOn(x.index, new Set(rowNames));
    });
    this.#storesOnce = readsRows;
  }

  #dependsOn(x: Expr, axis: Axis): boolean {
    return this.#exprs.table.info(x).free.includes(axis.name);
  }

  /**
   * tile = (batch·nBlocks + n block)·mBlocks + m block: threads share out columns first, which are cut evenly, and each weight is
   * read by one thread.
   */
  run(): void {
    const asm = this.#asm;
    if ((this.#source.kind === 'packed' || this.#source.kind === 'bytes') && this.#plan.a.guard) {
      const bytes = asm.const('i32', this.#panelBytes() * this.#blocking.panels * extentOf(this.#plan.batch));
      this.#zeros = asm.address(this.#bufferOf(this.#plan.b.buffer), bytes, 1);
    }
    const { batch: batchAxes, m, n, k } = this.#plan;
    for (const axis of [...batchAxes, ...m, ...n, ...k]) this.#endOf(axis);
    const rows = this.#rowsAtRunTime();
    const { begin, end, mBlocks, nBlocks, rowsInBlock, panelsInBlock } = this.#share(rows);
    const split = (x: Reg, by: Reg | 1): [Reg, Reg] =>
      by === 1 ? [x, asm.const('i32', 0)] : [asm.op('div_u', [x, by]), asm.op('rem_u', [x, by])];
    asm.loop(begin, end, 1, (tile) =>
      this.#scopes.scope(() => {
        const [rest, mBlock] = split(tile, mBlocks);
        const [batch, nBlock] = split(rest, nBlocks);
        const coords = this.#split(batchAxes, batch);
        batchAxes.forEach((axis, i) => {
          this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
        });
        const first = asm.op('mul', [nBlock, panelsInBlock]);
        const part = { first, last: asm.op('add', [first, panelsInBlock]) };
        this.#block(this.#wholeBatch(coords, batch), part, asm.op('mul', [mBlock, rowsInBlock]), rowsInBlock, rows);
      }),
    );
  }

  /** How this call's tiles lie: as cut beforehand, or by the sizes that there are. */
  #share(rows: Reg | undefined): Share {
    const asm = this.#asm;
    const { batch, n } = this.#plan;
    const { mBlocks, nBlocks, rowsInBlock, panelsInBlock, panels, tiles } = this.#blocking;
    const c = (value: number) => asm.const('i32', value);
    if (!rows && !hasLimit(batch) && !hasLimit(n)) {
      const [begin, end] = asm.params;
      const known = (count: number): Reg | 1 => (count === 1 ? 1 : c(count));
      const cut = { rowsInBlock: c(rowsInBlock), panelsInBlock: c(panelsInBlock) };
      return { begin, end, mBlocks: known(mBlocks), nBlocks: known(nBlocks), ...cut };
    }
    const present = blockPresent(asm, this.#plan, this.#params, {
      rows: rows ?? c(this.#m),
      panels: n[0].limit ? this.#panelsOf(this.#endOf(n[0])) : c(panels),
      batches: this.#exprs.value(batch.map(e.boundOf).reduce(e.mul, e.index(1))),
    });
    return { ...presentRange(asm, present.tiles, tiles), ...present };
  }

  /** The register of an axis's end. */
  #endOf(axis: Axis): Reg {
    return this.#exprs.value(e.boundOf(axis));
  }

  /** Rows that there are at run time; undefined where no m axis has a limit. */
  #rowsAtRunTime(): Reg | undefined {
    const { m } = this.#plan;
    if (!hasLimit(m)) return undefined;
    return this.#exprs.value(m.map(e.boundOf).reduce(e.mul));
  }

  #panelBytes(): number {
    if (this.#source.kind === 'bytes') return packedPanelBytes(this.#source.dot.packing);
    return extentOf(this.#plan.k) * this.#blocking.width * 4;
  }

  #bufferOf(name: string): Reg {
    return this.#exprs.address(name, e.index(0)).base;
  }

  #split(axes: readonly Axis[], position: Reg): Reg[] {
    return coordinates(this.#asm, this.#exprs, axes, position);
  }

  /** The number of the batch among those of whole extents: packed panels lie in that order. */
  #wholeBatch(coords: readonly Reg[], batch: Reg): Reg {
    const asm = this.#asm;
    const axes = this.#plan.batch;
    if (!hasLimit(axes.slice(1))) return batch;
    return coords.reduce((sum, coord, i) =>
      asm.op('add', [asm.op('mul', [sum, asm.const('i32', axes[i].extent)]), coord]),
    );
  }

  /** Rows from `mFrom` on, `share` of them or as many as there are, against panels [first, last). */
  #block(
    batch: Reg,
    { first: firstPanel, last: lastPanel }: { readonly first: Reg; readonly last: Reg },
    mFrom: Reg,
    share: Reg,
    rows: Reg | undefined,
  ): void {
    const asm = this.#asm;
    const { width, panels } = this.#blocking;
    const c = (value: number) => asm.const('i32', value);
    const mTo = asm.op('min', [asm.op('add', [mFrom, share]), rows ?? c(this.#m)]);
    const full = Math.floor(this.#n.extent / width);
    const panelBytes = this.#panelBytes();
    const ofBatch = asm.op('mul', [batch, c(panels)]);
    const panelAt = (panel: Reg): Reg =>
      this.#source.kind === 'gathered'
        ? this.#source.scratch
        : asm.address(this.#bufferOf(this.#plan.b.buffer), asm.op('add', [ofBatch, panel]), panelBytes);
    const all = (): void => {
      if (full > 0) {
        const end = this.#n.limit ? asm.op('min', [c(full), this.#panelsOf(this.#endOf(this.#n))]) : c(full);
        asm.loop(firstPanel, asm.op('min', [lastPanel, end]), 1, (panel) =>
          this.#scopes.scope(() => this.#panel(panel, panelAt(panel), width, mFrom, mTo, rows)),
        );
      }
      const tail = this.#n.extent - full * width;
      if (tail === 0) return;
      const isLast = asm.op('ge', [lastPanel, c(panels)]);
      const isThere = this.#n.limit
        ? asm.op('and', [isLast, asm.op('gt', [this.#endOf(this.#n), c(full * width)])])
        : isLast;
      asm.if(isThere, () => this.#scopes.scope(() => this.#panel(c(full), panelAt(c(full)), tail, mFrom, mTo, rows)));
    };
    if (rows) asm.if(asm.op('lt', [mFrom, rows]), () => this.#scopes.scope(all));
    else all();
  }

  /** Panels that so many columns fill or begin. */
  #panelsOf(columns: Reg): Reg {
    const { width } = this.#blocking;
    return divideUp(this.#asm, columns, width);
  }

  /** The panel of `columns` columns from `first` on: a column of b at a time, as [k][width]. */
  #gather(scratch: Reg, first: Reg, columns: number): void {
    const asm = this.#asm;
    const { b, k } = this.#plan;
    const [run] = k;
    const stepBytes = (this.#exprs.table.strideAlong(b.index, run.name) ?? 0) * 4;
    const rowBytes = this.#blocking.width * 4;
    const c = (value: number) => asm.const('i32', value);
    asm.loop(c(0), c(columns), 1, (column) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(this.#n.name, { kind: 'register', reg: asm.op('add', [first, column]) });
        this.#scopes.bind(run.name, { kind: 'constant', value: 0 });
        const { base, byteOffset } = this.#exprs.address(b.buffer, b.index);
        const [from, to] = [this.#pointer(base), this.#pointer(asm.address(scratch, column, 4))];
        const copy = (count: number): void => {
          const elements = Array.from({ length: count }, (_, i) => asm.load('f32', from, byteOffset + i * stepBytes));
          elements.forEach((element, i) => {
            asm.store('f32', to, i * rowBytes, element);
          });
        };
        const rest = run.extent % GATHERED_AT_ONCE;
        asm.loop(c(0), c(run.extent - rest), GATHERED_AT_ONCE, () => {
          copy(GATHERED_AT_ONCE);
          this.#bump(from, GATHERED_AT_ONCE * stepBytes);
          this.#bump(to, GATHERED_AT_ONCE * rowBytes);
        });
        copy(rest);
      }),
    );
  }

  /** All rows of the block against one panel of `columns` columns. */
  #panel(panel: Reg, packed: Reg, columns: number, mFrom: Reg, mTo: Reg, there: Reg | undefined): void {
    const asm = this.#asm;
    const first = asm.op('mul', [panel, asm.const('i32', this.#blocking.width)]);
    if (this.#source.kind === 'gathered') this.#gather(this.#source.scratch, first, columns);
    this.#scopes.bind(this.#n.name, { kind: 'lanes', base: first, offset: 0 });
    const rows = this.#blocking.rowsOf(columns);
    if (there) {
      this.#countedRows(rows, columns, packed, mFrom, mTo);
      return;
    }
    const whole = Math.floor(this.#m / rows) * rows;
    const rest = this.#m - whole;
    if (rest > 0 && (rows - rest) * OVERLAP_PART <= whole) {
      this.#rowLoop({ rows, columns }, packed, mFrom, mTo, true);
      return;
    }
    if (whole > 0) {
      const to = rest === 0 ? mTo : asm.op('min', [mTo, asm.const('i32', whole)]);
      this.#rowLoop({ rows, columns }, packed, mFrom, to);
    }
    if (rest === 0) return;
    asm.if(asm.op('eq', [mTo, asm.const('i32', this.#m)]), () =>
      this.#scopes.scope(() => {
        const from = asm.const('i32', whole);
        this.#rowLoop({ rows: rest, columns }, packed, from, asm.const('i32', this.#m));
      }),
    );
  }

  /** Rows [from, to), whose number only running tells: whole tiles, then tiles of half as many rows, down to single ones. */
  #countedRows(rows: number, columns: number, packed: Reg, from: Reg, to: Reg): void {
    const asm = this.#asm;
    let next = from;
    for (let size = rows; size > 0; size = Math.floor(size / 2)) {
      const left = asm.op('sub', [to, next]);
      const count = asm.op('mul', [asm.op('div_u', [left, asm.const('i32', size)]), asm.const('i32', size)]);
      const end = asm.op('add', [next, count]);
      const start = next;
      asm.if(asm.op('lt', [start, end]), () =>
        this.#scopes.scope(() => this.#rowLoop({ rows: size, columns }, packed, start, end)),
      );
      next = end;
    }
  }

  /**
   * Tiles of shape.rows rows over [from, to). With several m axes the coordinates of the next row are kept by carrying. Where they
   * overlap, the last tile of all begins so early that it is whole: some rows are computed twice, to the same values, and stored once where
   * that matters.
   */
  #rowLoop(shape: TileShape, packed: Reg, from: Reg, to: Reg, overlaps = false): void {
    const asm = this.#asm;
    const axes = this.#plan.m;
    const last = asm.const('i32', this.#m - shape.rows);
    const inner = axes.at(-1);
    const isAligned = axes.length > 1 && !inner?.limit && (inner?.extent ?? 0) % shape.rows === 0;
    const repeated = (m: Reg): Repeated | undefined =>
      overlaps && this.#storesOnce
        ? { rows: shape.rows - (this.#m % shape.rows), isRepeat: asm.op('gt', [m, last]) }
        : undefined;
    if (axes.length <= 1 || isAligned) {
      const next = axes.length > 1 ? this.#split(axes, from).map((x) => this.#copy(x)) : [];
      const stepped = asm.const('i32', shape.rows);
      asm.loop(from, to, shape.rows, (m) =>
        this.#scopes.scope(() => {
          const coords = axes.length > 1 ? next : [overlaps ? asm.op('min', [m, last]) : m];
          axes.forEach((axis, i) => {
            this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
          });
          this.#tile(shape, packed, this.#rowsAlong(shape.rows), repeated(m));
          if (axes.length > 1) this.#advance(axes, next, stepped, next);
        }),
      );
      return;
    }
    const next = this.#split(axes, from).map((x) => this.#copy(x));
    asm.loop(from, to, shape.rows, (m) =>
      this.#scopes.scope(() => {
        if (overlaps) {
          asm.if(asm.op('gt', [m, last]), () => {
            coordinatesOf(axes, this.#m - shape.rows).forEach((at, i) => {
              asm.move(next[i], asm.const('i32', at));
            });
          });
        }
        const apart = (): void => this.#tile(shape, packed, this.#rowsApart(shape.rows, next), repeated(m));
        if (inner?.limit && shape.rows === this.#blocking.rowsOf(shape.columns))
          this.#inOneLine(shape, packed, next, apart);
        else apart();
      }),
    );
  }

  /** A tile that begins at `next`, which is then moved on: by rows along the innermost axis where all of them lie in one line of it. */
  #inOneLine(shape: TileShape, packed: Reg, next: readonly Reg[], otherwise: () => void): void {
    const asm = this.#asm;
    const axes = this.#plan.m;
    const inner = axes.length - 1;
    const rows = asm.const('i32', shape.rows);
    asm.if(
      asm.op('le', [asm.op('add', [next[inner], rows]), this.#endOf(axes[inner])]),
      () =>
        this.#scopes.scope(() => {
          axes.forEach((axis, i) => {
            this.#scopes.bind(axis.name, { kind: 'register', reg: next[i] });
          });
          this.#tile(shape, packed, this.#rowsAlong(shape.rows), undefined);
          this.#advance(axes, next, rows, next);
        }),
      () => this.#scopes.scope(otherwise),
    );
  }

  #copy(x: Reg): Reg {
    const out = this.#asm.reg('i32');
    this.#asm.move(out, x);
    return out;
  }

  /** coords + step along the innermost axis, carried outward; a carry leaves 0 behind, so step must divide the extent or be 1. */
  #advance(axes: readonly Axis[], coords: readonly Reg[], step: Reg, into: readonly Reg[]): void {
    const asm = this.#asm;
    let increment = step;
    for (let i = axes.length - 1; i >= 0; i--) {
      const sum = asm.op('add', [coords[i], increment]);
      if (i === 0) {
        asm.move(into[0], sum);
        return;
      }
      const carry = asm.op('ge', [sum, this.#endOf(axes[i])]);
      asm.select(carry, asm.const('i32', 0), sum, into[i]);
      increment = carry;
    }
  }

  /** Rows one behind the other along the innermost m axis: row r is that axis plus r. */
  #rowsAlong(rows: number): Rows {
    const inner = this.#plan.m.at(-1);
    const each = Array.from({ length: rows }, (_, row) => () => {
      if (inner) this.#scopes.shift(inner.name, row);
    });
    const { table } = this.#exprs;
    const isLinear = conjuncts(this.#plan.a.guard).every(
      (g) => g.kind === 'binary' && inner && [g.a, g.b].every((x) => table.strideAlong(x, inner.name) !== undefined),
    );
    return { each, ends: isLinear && rows > 1 ? [each[0], each[rows - 1]] : each };
  }

  /** Rows anywhere: each has coordinates of its own, the next ones in `next`, which goes on. */
  #rowsApart(rows: number, next: readonly Reg[]): Rows {
    const axes = this.#plan.m;
    const one = this.#asm.const('i32', 1);
    const names = axes.map(({ name }) => name);
    const each = Array.from({ length: rows }, () => {
      axes.forEach((axis, i) => {
        this.#scopes.bind(axis.name, { kind: 'register', reg: this.#copy(next[i]) });
      });
      this.#advance(axes, next, one, next);
      const own = this.#scopes.save(names);
      return () => this.#scopes.restore(own);
    });
    return { each, ends: each };
  }

  #tile(shape: TileShape, packed: Reg, rows: Rows, repeated: Repeated | undefined): void {
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
    if (this.#source.kind !== 'bytes') return length * this.#blocking.width * 4;
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
    const bBytes = direct?.stepBytes ?? this.#blocking.width * 4;
    const bOffset = direct?.byteOffset ?? 0;
    const step = () => {
      const vectors = acc[0].map((_, v) => {
        const column = v * asm.lanes;
        const width = direct ? Math.min(asm.lanes, shape.columns - column) : asm.lanes;
        return this.#loadPart(b, bOffset + column * 4, width);
      });
      pointers.forEach(({ pointer, byteOffset }, row) => {
        const splat = asm.load('splatf32', pointer, byteOffset);
        vectors.forEach((vector, v) => {
          asm.fma(acc[row][v], splat, vector);
        });
      });
      const aBytes = run ? (this.#exprs.table.strideAlong(view.a.index, run.name) ?? 0) * 4 : 0;
      if (run && aBytes !== 0) for (const p of moving.values()) this.#bump(p, aBytes);
      if (bBytes !== 0) this.#bump(b, bBytes);
    };
    if (!run || (run.extent === 1 && !run.limit)) step();
    else asm.loop(asm.const('i32', 0), this.#endOf(run), 1, () => this.#scopes.scope(step));
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

/** Coordinates of a flat position. */
function coordinatesOf(axes: readonly Axis[], position: number): number[] {
  const out: number[] = [];
  let rest = position;
  for (const { extent } of axes.toReversed()) {
    out.unshift(rest % extent);
    rest = Math.floor(rest / extent);
  }
  return out;
}
