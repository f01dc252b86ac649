/**
 * Statements as PTX for one point, or several in lanes, computed by one thread or by a team of threads.
 *
 * All threads of a team run the same statements on the same point and agree on every local. A reduce and a for loop of the body share
 * out their iterations: neighbouring threads take neighbouring elements, in vectors where memory allows; partial results meet by
 * shuffles within a warp and through shared memory beyond. Stores outside such loops are the first thread's.
 */
import type { DType } from '../../core/dtype.ts';
import { identity } from '../../loop/arithmetic.ts';
import { constant } from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, ReduceOp, Stmt } from '../../loop/ir.ts';
import { boundNames, reassignedLocals } from '../cpu/walk.ts';
import { divideBy, remainderBy } from './divide.ts';
import { choose, type ExprEmitter, type Value } from './emit-expr.ts';
import { beforeLimits, endOf, hasLimit, isPoint } from './limits.ts';
import { exprSize } from './nest-plan.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { registerOf } from './registers.ts';
import { scalarBinary } from './scalar-ops.ts';
import type { Team } from './team.ts';

/** Expression nodes that an unrolled loop may have in all, where the caller says nothing else. */
const MOST_UNROLLED = 700;
const MOST_TAPS = 49;
/** Iterations of a long loop that run as one. */
const UNROLL = 4;
/** Turns of a shared-out loop up to which they are written one by one: what they load may stay in registers. */
const MOST_TURNS = 8;
/** Elements of a thread that are asked for ahead. */
const MOST_AHEAD = 128;

export class BodyEmitter {
  readonly exprs: ExprEmitter;
  readonly #k: PtxKernel;
  readonly #reassigned: ReadonlySet<string>;
  /** Registers of locals that are assigned more than once. */
  readonly #fixed = new Map<string, Reg[]>();
  readonly #mostUnrolled: number;
  #team: Team | undefined;

  constructor(k: PtxKernel, kernel: Kernel, exprs: ExprEmitter, team?: Team, mostUnrolled = MOST_UNROLLED) {
    this.#k = k;
    this.exprs = exprs;
    this.#team = team;
    this.#mostUnrolled = mostUnrolled;
    this.#reassigned = reassignedLocals(kernel.body);
  }

  body(stmts: readonly Stmt[]): void {
    for (const s of stmts) this.#stmt(s);
  }

  /**
   * Asks for what a team's loops load before the first of them meets, so that memory is waited for once: where threads have the same few
   * turns each, and as far as registers allow.
   */
  askAhead(stmts: readonly Stmt[]): void {
    const team = this.#team;
    if (team?.across !== 'iterations') return;
    let room = MOST_AHEAD;
    for (const s of stmts) {
      if (s.kind !== 'reduce' && s.kind !== 'for') continue;
      const axes = (s.kind === 'for' ? [s.axis] : s.axes).filter((a) => !isPoint(a));
      const units = axes.reduce((n, a) => n * a.extent, 1) / team.lanes;
      const turns = units / team.threads;
      if (axes.length === 0 || hasLimit(axes) || !Number.isInteger(turns) || turns > MOST_TURNS) continue;
      const loads = this.exprs.plainLoads(s.kind === 'for' ? s.body : [s]);
      if (loads.length * turns * team.lanes > room) continue;
      for (let turn = 0; turn < turns; turn++) {
        this.exprs.withLanes(team.lanes, () => {
          this.#bindUnits(axes, team.lanes, team.rank, turn * team.threads);
          for (const load of loads) this.exprs.value(load);
        });
      }
      room -= loads.length * turns * team.lanes;
    }
  }

  #stmt(s: Stmt): void {
    const team = this.#team;
    switch (s.kind) {
      case 'store':
        if (team) {
          team.order?.();
          this.#k.if(team.first, () => this.exprs.scope(() => this.exprs.store(s.buffer, s.index, s.value)));
          team.order?.();
        } else this.exprs.store(s.buffer, s.index, s.value);
        return;
      case 'let':
        this.#assign(s.local, this.exprs.value(s.value));
        return;
      case 'reduce':
        if (team) this.#assign(s.local, this.#teamReduce(team, s));
        else this.#assign(s.local, this.#reduce(s));
        return;
      case 'if':
        this.#branch(s);
        return;
      case 'for':
        if (team) this.#teamFor(team, s.axis, s.body);
        else this.#loop(s.axis, s.body);
        return;
      case 'scan':
        this.#loop(s.axis, s.body, s.while);
        return;
      default:
        s satisfies never;
    }
  }

  #assign(name: string, value: Value): void {
    if (!this.#reassigned.has(name)) {
      this.exprs.bindLocal(name, value);
      return;
    }
    const { lanes } = this.exprs;
    const key = `${name}/${lanes}`;
    const regs = this.#fixed.get(key) ?? Array.from({ length: lanes }, () => this.#k.reg(value[0].type));
    this.#fixed.set(key, regs);
    // Read before written: the value may be the local itself.
    const from = regs.map((_, i) => value[value.length === 1 ? 0 : i]);
    regs.forEach((reg, i) => {
      this.#k.move(reg, from[i]);
    });
    this.exprs.bindLocal(name, regs);
  }

  #branch(s: Extract<Stmt, { kind: 'if' }>): void {
    const changing = boundNames(s.body);
    const pred = this.exprs.scalar(s.cond);
    this.#k.if(pred, () => this.exprs.scope(() => this.body(s.body)));
    this.exprs.touch(changing);
  }

  /** Iterations one after the other in each thread, as long as `condition` holds. */
  #loop(axis: Axis, body: readonly Stmt[], condition?: Expr): void {
    if (axis.extent === 0) return;
    if (isPoint(axis) && !condition) {
      this.exprs.bindAxis(axis, { offset: 0 });
      this.body(body);
      return;
    }
    const changing = boundNames(body);
    this.exprs.touch(changing);
    this.exprs.prepare(body, [axis.name]);
    const bind = (i: Reg): void => this.exprs.bindAxis(axis, { reg: this.#k.op('mov.b32', i), offset: 0 });
    const goesOn = (i: Reg): Reg =>
      this.exprs.scope(() => {
        bind(i);
        return this.exprs.scalar(condition as Expr);
      });
    this.#k.loop(
      0,
      endOf(this.exprs, axis),
      1,
      (i) =>
        this.exprs.scope(() => {
          bind(i);
          this.body(body);
        }),
      condition && goesOn,
    );
    this.exprs.touch(changing);
  }

  // Reductions by one thread.

  #reduce(s: Extract<Stmt, { kind: 'reduce' }>): Value {
    const axes = this.#loopsOf(s);
    const width = this.#widthOf(s);
    const acc = Array.from({ length: width }, () => this.#start(s.op, s.dtype));
    if (axes.every((a) => a.extent > 0)) {
      this.#taps(s, axes, () => this.#fold(s, acc, this.exprs.value(s.value)));
    }
    return this.#settle(acc);
  }

  /** The axes that need a loop; the others are bound. */
  #loopsOf(s: Extract<Stmt, { kind: 'reduce' }>): readonly Axis[] {
    for (const a of s.axes) if (isPoint(a)) this.exprs.bindAxis(a, { offset: 0 });
    return s.axes.filter((a) => !isPoint(a));
  }

  /** Lanes of a reduction's result: whether its value varies is known once its axes are bound. */
  #widthOf(s: Extract<Stmt, { kind: 'reduce' }>): number {
    return this.exprs.varies(s.value) ? this.exprs.lanes : 1;
  }

  #start(op: ReduceOp, dtype: DType): Reg {
    const acc = this.#k.reg(registerOf(dtype));
    this.#k.move(acc, this.exprs.scalar(constant(dtype, identity(op, dtype))));
    return acc;
  }

  #fold(s: Extract<Stmt, { kind: 'reduce' }>, acc: readonly Reg[], value: Value): void {
    acc.forEach((reg, i) => {
      this.#foldInto(reg, s, value[value.length === 1 ? 0 : i]);
    });
  }

  #foldInto(acc: Reg, { op, dtype }: { op: ReduceOp; dtype: DType }, value: Reg): void {
    this.#k.move(acc, scalarBinary(this.#k, op, dtype, acc, value));
  }

  /** Registers that do not change any more, so that what is computed from them can be shared. */
  #settle(acc: readonly Reg[]): Reg[] {
    return acc.map((reg) => this.#k.op(`mov.${reg.type}`, reg));
  }

  /** `tap` for every point of the axes: all written out where they are few, else loops, the innermost by several at a time. */
  #taps(s: Extract<Stmt, { kind: 'reduce' }>, axes: readonly Axis[], tap: () => void): void {
    if (axes.length === 0) {
      tap();
      return;
    }
    const size = exprSize(s.value) * this.exprs.lanes;
    const taps = axes.reduce((n, a) => n * a.extent, 1);
    const [axis, ...rest] = axes;
    if (taps <= MOST_TAPS && taps * size <= this.#mostUnrolled && !hasLimit(axes)) {
      for (let i = 0; i < axis.extent; i++) {
        this.exprs.bindAxis(axis, { offset: i });
        this.#taps(s, rest, tap);
      }
      return;
    }
    const step = rest.length === 0 && size * UNROLL <= this.#mostUnrolled ? UNROLL : 1;
    this.#steps(s, axis, step, () => this.#taps(s, rest, tap));
  }

  /** A loop over an axis by `step` iterations at a time, then the rest. */
  #steps(s: Extract<Stmt, { kind: 'reduce' }>, axis: Axis, step: number, body: () => void): void {
    const end = endOf(this.exprs, axis);
    const whole = typeof end === 'number' ? end - (end % step) : this.#k.op('and.b32', end, -step >>> 0);
    this.exprs.prepare([s], [axis.name]);
    const loop = (from: Reg | number, to: Reg | number, by: number): void =>
      this.#k.loop(from, to, by, (i) =>
        this.exprs.scope(() => {
          const reg = this.#k.op('mov.b32', i);
          for (let offset = 0; offset < by; offset++) {
            this.exprs.bindAxis(axis, { reg, offset });
            body();
          }
        }),
      );
    loop(0, whole, step);
    if (typeof end !== 'number') {
      if (step > 1) loop(whole, end, 1);
      return;
    }
    for (let offset = end - (end % step); offset < end; offset++) {
      this.exprs.bindAxis(axis, { offset });
      body();
    }
  }

  // Loops that a team shares out.

  #teamReduce(team: Team, s: Extract<Stmt, { kind: 'reduce' }>): Value {
    const axes = this.#loopsOf(s);
    if (s.axes.some((a) => a.extent === 0)) return this.exprs.value(constant(s.dtype, identity(s.op, s.dtype)));
    const points = team.across === 'points';
    const width = points ? this.#widthOf(s) : team.lanes;
    const acc = Array.from({ length: width }, () => this.#start(s.op, s.dtype));
    this.#shareOut(team, axes, [s], (valid) => {
      const value = valid ? this.exprs.masked(valid, () => this.exprs.value(s.value)) : this.exprs.value(s.value);
      acc.forEach((reg, i) => {
        const folded = scalarBinary(this.#k, s.op, s.dtype, reg, value[value.length === 1 ? 0 : i]);
        this.#k.move(reg, valid ? choose(this.#k, valid, folded, reg) : folded);
      });
    });
    if (points) return team.combine(this.#settle(acc), s.op, s.dtype);
    const [first, ...others] = acc;
    for (const other of others) this.#foldInto(first, s, other);
    return team.combine(this.#settle([first]), s.op, s.dtype);
  }

  #teamFor(team: Team, axis: Axis, body: readonly Stmt[]): void {
    if (axis.extent === 0) return;
    const changing = boundNames(body);
    this.exprs.touch(changing);
    team.order?.();
    this.#team = undefined;
    this.#shareOut(team, [axis], body, (valid) => {
      const active = valid && team.valid ? this.#k.op('and.pred', valid, team.valid) : (valid ?? team.valid);
      if (active) this.#k.if(active, () => this.exprs.scope(() => this.body(body)));
      else this.body(body);
    });
    this.#team = team;
    team.order?.();
    this.exprs.touch(changing);
  }

  /**
   * Every point of the axes once, by one thread of the team each, in units of `lanes` neighbours: unit = turn·threads + rank. `each` is
   * told under which predicate its points exist; nothing where they certainly do. With limits turns end where the outermost axis does,
   * and no point is certain.
   */
  #shareOut(team: Team, axes: readonly Axis[], body: readonly Stmt[], each: (valid: Reg | undefined) => void): void {
    const k = this.#k;
    const { threads, rank } = team;
    const points = team.across === 'points';
    const lanes = points ? 1 : team.lanes;
    const units = axes.reduce((n, a) => n * a.extent, 1) / lanes;
    const run = (from: Reg, offset: number, certain: boolean): void => {
      const exists = certain ? undefined : k.op('setp.lt.s32', k.op('add.s32', from, offset), units);
      this.exprs.withLanes(points ? this.exprs.lanes : lanes, () => {
        const inside = this.#bindUnits(axes, lanes, from, offset);
        each(exists && inside ? k.op('and.pred', exists, inside) : (exists ?? inside));
      });
    };
    const turns = Math.ceil(units / threads);
    const isCertain = (turn: number): boolean => (turn + 1) * threads <= units;
    const [outer] = axes;
    if (outer?.limit && turns > 1) {
      this.exprs.prepare(
        body,
        axes.map((a) => a.name),
      );
      const bound = endOf(this.exprs, outer) as Reg;
      const end = axes.length === 1 ? divideBy(k, bound, lanes) : k.op('mul.lo.s32', bound, units / outer.extent);
      k.loop(0, end, threads, (i) => this.exprs.scope(() => run(k.op('add.s32', rank, i), 0, false)));
      return;
    }
    if (turns <= MOST_TURNS) {
      for (let turn = 0; turn < turns; turn++) run(rank, turn * threads, isCertain(turn));
      return;
    }
    // What a turn loads has to come from far: as many turns at once as registers allow.
    const together = turns >= 4 * UNROLL && body.every((s) => s.kind === 'reduce') ? 2 * UNROLL : UNROLL;
    const whole = Math.floor(units / (threads * together)) * threads * together;
    this.exprs.prepare(
      body,
      axes.map((a) => a.name),
    );
    k.loop(0, whole, threads * together, (i) =>
      this.exprs.scope(() => {
        const from = k.op('add.s32', rank, i);
        for (let u = 0; u < together; u++) run(from, u * threads, true);
      }),
    );
    for (let turn = whole / threads; turn < turns; turn++) run(rank, turn * threads, isCertain(turn));
  }

  /**
   * Axes at unit from + offset of their common row-major order; a unit is `lanes` neighbours along the last. The predicate tells whether
   * they lie before their limits; undefined where there are none.
   */
  #bindUnits(axes: readonly Axis[], lanes: number, from: Reg, offset: number): Reg | undefined {
    const k = this.#k;
    const last = axes.length - 1;
    const inLanes = lanes > 1 ? { scale: lanes, lanes: true } : {};
    if (axes.length === 1) {
      this.exprs.bindAxis(axes[last], { reg: from, offset: offset * lanes, ...inLanes });
      if (!axes[last].limit) return undefined;
      const first = k.op('mul.lo.s32', k.op('add.s32', from, offset), lanes);
      return beforeLimits(k, this.exprs, [{ axis: axes[last], at: first }]);
    }
    let rest = k.op('add.s32', from, offset);
    const positions: { axis: Axis; at: Reg }[] = [];
    for (let i = last; i >= 0; i--) {
      const extent = i === last ? axes[i].extent / lanes : axes[i].extent;
      const at = i === 0 ? rest : remainderBy(k, rest, extent);
      this.exprs.bindAxis(axes[i], { reg: at, offset: 0, ...(i === last && inLanes) });
      positions.push({ axis: axes[i], at: i === last && axes[i].limit ? k.op('mul.lo.s32', at, lanes) : at });
      if (i > 0) rest = divideBy(k, rest, extent);
    }
    return beforeLimits(k, this.exprs, positions);
  }
}
