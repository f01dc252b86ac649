/**
 * The generated kernel: any body as a loop nest, vectorised where it can be.
 *
 * A tile is a point of the outer parallel axes, or a chunk of the axis in the lanes (see nest-plan.ts). Loops run outer to inner;
 * before each, what does not change inside is computed (ExprEmitter.prepare). A lane loop steps by several vectors at a time: its body is
 * then emitted in copies, statement by statement, so that a reduction inside keeps one accumulator a copy in a single loop.
 * Remainders run one vector at a time, then one element at a time.
 */
import { DTYPES } from '../../core/dtype.ts';
import { boundOf, constant } from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, ReduceOp, Stmt } from '../../loop/ir.ts';
import type { Asm, Reg } from './asm.ts';
import { ExprEmitter } from './emit-expr.ts';
import { bodySize, isLaneLoop, isLaneReduce, type LaneFacts, varyingNames } from './lanes.ts';
import type { NestPlan } from './nest-plan.ts';
import { coordinates, partOf, presentTiles } from './present-tiles.ts';
import { scalarBinary, scalarType } from './scalar-ops.ts';
import type { Scopes } from './scopes.ts';
import { isVector, vectorBinary, vectorType } from './vector-ops.ts';
import { boundNames, eachStmt, localKey, reassignedLocals } from './walk.ts';

const MAX_UNROLLED_TAPS = 9;
/** Vectors that a chunk of a lane axis with a limit is a multiple of: what a lane loop does at once. */
const CHUNK_VECTORS = 4;

export function emitNest(asm: Asm, plan: NestPlan): void {
  new NestEmitter(asm, plan.kernel).run(plan);
}

/** One copy of an unrolled lane body: its distance from the first in elements, and its own locals. */
interface Copy {
  readonly offset: number;
  locals: ReturnType<Scopes['save']>;
}

class NestEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #facts: LaneFacts;
  /** Locals assigned more than once live in one register each. */
  readonly #reassigned: ReadonlySet<string>;
  #copies: readonly Copy[] = [{ offset: 0, locals: new Map() }];
  #laneAxis: string | undefined;
  #varying: ReadonlySet<string> = new Set();

  constructor(asm: Asm, kernel: Kernel) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#facts = { table: this.#exprs.table, buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
    this.#reassigned = reassignedLocals(kernel.body);
  }

  /** All tiles [begin, end). */
  run({ kernel, tileAxes, innerAxes, lanes, chunk }: NestPlan): void {
    const asm = this.#asm;
    if (kernel.axes.some((a) => a.extent === 0)) return;
    const laneAxes = lanes ? [lanes] : [];
    // Known before the first loop, so that every loop finds its end in a register.
    for (const axis of limitedAxes(kernel)) this.#exprs.value(boundOf(axis));
    this.#exprs.prepare(
      kernel.body,
      [...tileAxes, ...innerAxes, ...laneAxes].map((a) => a.name),
      lanes !== undefined,
    );
    const inner = () => this.#loops(innerAxes, lanes, kernel.body);
    const chunks = lanes && chunk > 0 ? Math.ceil(lanes.extent / chunk) : 1;
    const size =
      lanes?.limit && chunk > 0
        ? partOf(asm, this.#exprs.value(boundOf(lanes)), chunks, CHUNK_VECTORS * asm.lanes)
        : asm.const('i32', chunk);
    const { begin, end } = presentTiles(asm, this.#exprs, tileAxes, chunks);
    if (lanes && chunk > 0 && tileAxes.length === 0) {
      const from = asm.op('mul', [begin, size]);
      const to = asm.op('min', [asm.op('mul', [end, size]), this.#asRegister(this.#endOf(lanes))]);
      // An empty range may begin behind the end of the axis.
      this.#laneLoop(lanes, from, asm.op('max', [from, to]), kernel.body);
    } else if (lanes && chunk > 0) {
      asm.loop(begin, end, 1, (tile) =>
        this.#scopes.scope(() => {
          const count = asm.const('i32', chunks);
          const from = asm.op('mul', [asm.op('rem_u', [tile, count]), size]);
          const most = this.#asRegister(this.#endOf(lanes));
          const to = asm.op('min', [asm.op('add', [from, size]), most]);
          this.#bindTile(tileAxes, asm.op('div_u', [tile, count]));
          this.#exprs.prepare(kernel.body, [lanes.name], true);
          this.#laneLoop(lanes, from, lanes.limit ? asm.op('max', [from, to]) : to, kernel.body);
        }),
      );
    } else if (tileAxes.length === 0) asm.if(asm.op('lt', [begin, end]), () => this.#scopes.scope(inner));
    else {
      asm.loop(begin, end, 1, (tile) =>
        this.#scopes.scope(() => {
          this.#bindTile(tileAxes, tile);
          inner();
        }),
      );
    }
  }

  /** Where the axis ends: a number, or the register of its limit. */
  #endOf(axis: Axis): Reg | number {
    return axis.limit ? this.#exprs.value(boundOf(axis)) : axis.extent;
  }

  /** tile = ((x0·e1 + x1)·e2 + x2)…; the outermost first. */
  #bindTile(axes: readonly Axis[], tile: Reg): void {
    const coords = coordinates(this.#asm, this.#exprs, axes, tile);
    axes.forEach((axis, i) => {
      this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
    });
  }

  /** The parallel axes inside a tile, then the lanes or a single point. */
  #loops(axes: readonly Axis[], lanes: Axis | undefined, body: readonly Stmt[]): void {
    const names = [...axes, ...(lanes ? [lanes] : [])].map((a) => a.name);
    if (names.length > 0) this.#exprs.prepare(body, names, lanes !== undefined);
    if (axes.length > 0) {
      this.#serialLoop(axes[0], () => this.#loops(axes.slice(1), lanes, body), body);
    } else if (lanes) {
      this.#laneLoop(lanes, 0, this.#endOf(lanes), body);
    } else this.#body(body);
  }

  /** for (axis) body as long as `condition` holds, with all that the body assigns seen as changing. */
  #serialLoop(axis: Axis, emit: () => void, body: readonly Stmt[], condition?: Expr): void {
    const changing = boundNames(body);
    const asm = this.#asm;
    this.#scopes.touch(changing);
    const bind = (i: Reg): void => this.#scopes.bind(axis.name, { kind: 'register', reg: i });
    const goesOn = (i: Reg): Reg =>
      this.#scopes.scope(() => {
        bind(i);
        return this.#exprs.value(condition as Expr);
      });
    asm.loop(
      asm.const('i32', 0),
      this.#asRegister(this.#endOf(axis)),
      1,
      (i) =>
        this.#scopes.scope(() => {
          bind(i);
          emit();
        }),
      condition && goesOn,
    );
    this.#scopes.touch(changing);
  }

  /** The axis over [from, to): several vectors at a time, one vector at a time, one element at a time. */
  #laneLoop(axis: Axis, from: Reg | number, to: Reg | number, body: readonly Stmt[]): void {
    const { lanes } = this.#asm;
    const copies = copiesFor(body, typeof from === 'number' && typeof to === 'number' ? to - from : axis.extent, lanes);
    if (typeof from === 'number' && typeof to === 'number') {
      const many = from + Math.floor((to - from) / (lanes * copies)) * lanes * copies;
      const vectors = from + Math.floor((to - from) / lanes) * lanes;
      this.#laneRange(axis, from, many, copies, body);
      this.#laneRange(axis, many, vectors, (vectors - many) / lanes, body);
      this.#scalarRange(axis, vectors, to, body);
      return;
    }
    const asm = this.#asm;
    const first = this.#asRegister(from);
    const length = asm.op('sub', [this.#asRegister(to), first]);
    const together = powerOfTwo(copies);
    const upTo = (multiple: number) => asm.op('add', [first, asm.op('and', [length, asm.const('i32', -multiple)])]);
    const many = upTo(lanes * together);
    this.#laneRange(axis, first, many, together, body);
    const vectors = together === 1 ? many : upTo(lanes);
    if (together > 1) this.#laneRange(axis, many, vectors, 1, body);
    this.#scalarRange(axis, vectors, this.#asRegister(to), body);
  }

  #asRegister(x: Reg | number): Reg {
    return typeof x === 'number' ? this.#asm.const('i32', x) : x;
  }

  /** [from, to), whose length is a multiple of `copies` vectors. */
  #laneRange(axis: Axis, from: Reg | number, to: Reg | number, copies: number, body: readonly Stmt[]): void {
    if (from === to || copies === 0) return;
    const { lanes } = this.#asm;
    const outer = { axis: this.#laneAxis, varying: this.#varying, copies: this.#copies };
    const changing = boundNames(body);
    this.#scopes.touch(changing);
    const step = lanes * copies;
    this.#asm.loop(this.#asRegister(from), this.#asRegister(to), step, (i) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(axis.name, { kind: 'lanes', base: i, offset: 0 });
        this.#laneAxis = axis.name;
        this.#varying = varyingNames(this.#exprs.table, body, axis.name);
        this.#copies = Array.from({ length: copies }, (_, copy) => ({ offset: copy * lanes, locals: new Map() }));
        this.#body(body);
      }),
    );
    this.#laneAxis = outer.axis;
    this.#varying = outer.varying;
    this.#copies = outer.copies;
    this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
    this.#dropLocals(changing);
  }

  /** After a lane loop its locals are of no more use: the loops that follow hold them in other registers. */
  #dropLocals(names: Iterable<string>): void {
    const locals = [...names].filter((name) => name.startsWith('%'));
    this.#scopes.restore(new Map(locals.map((name) => [name, undefined])));
    for (const name of locals) this.#fixed.delete(name);
  }

  #scalarRange(axis: Axis, from: Reg | number, to: Reg | number, body: readonly Stmt[]): void {
    if (from === to) return;
    const changing = boundNames(body);
    this.#scopes.touch(changing);
    this.#asm.loop(this.#asRegister(from), this.#asRegister(to), 1, (i) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(axis.name, { kind: 'register', reg: i });
        this.#body(body);
      }),
    );
    this.#dropLocals(changing);
  }

  /** Each statement for all copies, then the next. */
  #body(body: readonly Stmt[]): void {
    for (const s of body) this.#stmt(s);
  }

  #stmt(s: Stmt): void {
    switch (s.kind) {
      case 'store':
        this.#eachCopy(() => this.#exprs.store(s.buffer, s.index, s.value));
        return;
      case 'let':
        this.#eachCopy((copy) => this.#assign(s.local, s.value, copy));
        return;
      case 'reduce':
        this.#reduce(s);
        return;
      case 'if': {
        const changing = boundNames(s.body);
        this.#scopes.touch(changing);
        this.#asm.if(this.#exprs.value(s.cond), () => this.#scopes.scope(() => this.#body(s.body)));
        this.#scopes.touch(changing);
        this.#touchCopies(changing);
        return;
      }
      case 'for':
        if (s.axis.extent === 0) return;
        if (!this.#laneAxis && isLaneLoop(this.#facts, s.axis, s.body, this.#asm.lanes)) {
          this.#exprs.prepare(s.body, [s.axis.name], true);
          this.#laneLoop(s.axis, 0, this.#endOf(s.axis), s.body);
          return;
        }
        this.#loopStmt(s.axis, s.body);
        return;
      case 'scan':
        if (s.axis.extent > 0) this.#loopStmt(s.axis, s.body, s.while);
        return;
      default:
        s satisfies never;
    }
  }

  #loopStmt(axis: Axis, body: readonly Stmt[], condition?: Expr): void {
    if (axis.extent === 1 && !axis.limit && !condition) {
      this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
      this.#body(body);
      return;
    }
    const changing = boundNames(body);
    this.#scopes.touch(changing);
    this.#touchCopies(changing);
    this.#exprs.prepare(body, [axis.name], this.#laneAxis !== undefined, !condition);
    this.#serialLoop(
      axis,
      () => {
        this.#touchCopies(changing);
        this.#body(body);
      },
      body,
      condition,
    );
    this.#touchCopies(changing);
  }

  /** Runs `emit` for every copy, at its offset and with its locals. */
  #eachCopy(emit: (copy: number) => void): void {
    const axis = this.#laneAxis;
    if (axis === undefined || this.#copies.length === 1) {
      emit(0);
      return;
    }
    const locals = [...this.#varying].filter((name) => name.startsWith('%'));
    this.#copies.forEach((copy, i) => {
      this.#scopes.shift(axis, copy.offset);
      this.#scopes.restore(new Map([...locals.map((name) => [name, undefined] as const), ...copy.locals]));
      emit(i);
      copy.locals = this.#scopes.save(locals);
    });
    this.#scopes.shift(axis, 0);
    this.#scopes.restore(new Map([...locals.map((name) => [name, undefined] as const), ...this.#copies[0].locals]));
  }

  /** Values kept under the present versions of these names are stale in every copy. */
  #touchCopies(names: ReadonlySet<string>): void {
    if (this.#laneAxis !== undefined && this.#copies.length > 1) this.#eachCopy(() => this.#scopes.touch(names));
  }

  readonly #fixed = new Map<string, Reg[]>();

  #assign(name: string, value: Expr, copy: number): void {
    const key = localKey(name);
    const from = this.#varying.has(key) ? this.#exprs.vector(value) : this.#exprs.value(value);
    // A register that is written again (a loop counter, a local) must not be shared.
    const shares = value.kind === 'axis' || value.kind === 'local' || value.kind === 'cast' || value.kind === 'bitcast';
    if (!this.#reassigned.has(name) && !shares) {
      this.#scopes.bind(key, { kind: 'register', reg: from });
      return;
    }
    const registers = this.#fixed.get(key) ?? [];
    this.#fixed.set(key, registers);
    registers[copy] ??= this.#asm.reg(from.type);
    this.#asm.move(registers[copy], from);
    this.#scopes.bind(key, { kind: 'register', reg: registers[copy] });
  }

  #reduce(s: Extract<Stmt, { kind: 'reduce' }>): void {
    const axes = s.axes.filter((a) => a.extent !== 1 || a.limit);
    for (const axis of s.axes) this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
    const last = axes.at(-1);
    if (!this.#laneAxis && last && isLaneReduce(this.#facts, last, s.value, this.#asm.lanes)) {
      this.#laneReduce(s, axes.slice(0, -1), last);
    } else this.#serialReduce(s, axes);
  }

  /** One accumulator a copy; vectors where the value varies by lane. */
  #serialReduce(s: Extract<Stmt, { kind: 'reduce' }>, axes: readonly Axis[]): void {
    const key = localKey(s.local);
    const isVarying = this.#varying.has(key);
    const type = isVarying ? vectorType(s.dtype) : scalarType(s.dtype);
    const start = constant(s.dtype, identityOf(s.op, s.dtype));
    const accumulators = (isVarying ? this.#copies : [0]).map(() => this.#asm.reg(type));
    for (const acc of accumulators) {
      this.#asm.move(acc, isVarying ? this.#exprs.vector(start) : this.#exprs.value(start));
    }
    const fold = () => {
      if (isVarying) this.#eachCopy((copy) => this.#fold(s, accumulators[copy]));
      else this.#fold(s, accumulators[0]);
    };
    this.#reduceLoops(s, axes, fold);
    const bindAcc = (copy: number) => this.#scopes.bind(key, { kind: 'register', reg: accumulators[copy] });
    if (isVarying) this.#eachCopy(bindAcc);
    else bindAcc(0);
  }

  #reduceLoops(s: Extract<Stmt, { kind: 'reduce' }>, axes: readonly Axis[], innermost: () => void): void {
    const taps = axes.reduce((n, a) => n * a.extent, 1);
    const carrier: Stmt = { kind: 'let', local: s.local, dtype: s.dtype, value: s.value };
    if (axes.length === 0) innermost();
    else if (taps <= MAX_UNROLLED_TAPS && !axes.some((a) => a.limit)) {
      this.#exprs.prepare(
        [carrier],
        axes.map((a) => a.name),
        this.#varying.has(localKey(s.local)),
      );
      for (let i = 0; i < axes[0].extent; i++) {
        this.#scopes.bind(axes[0].name, { kind: 'constant', value: i });
        this.#reduceLoops(s, axes.slice(1), innermost);
      }
    } else {
      this.#exprs.prepare(
        [carrier],
        axes.map((a) => a.name),
        this.#varying.has(localKey(s.local)),
      );
      this.#serialLoop(axes[0], () => this.#reduceLoops(s, axes.slice(1), innermost), []);
    }
  }

  /** acc = op(acc, value). A sum of products is a fused multiply-add. */
  #fold(s: Extract<Stmt, { kind: 'reduce' }>, acc: Reg): void {
    const asm = this.#asm;
    const get = (x: Expr) => (isVector(acc) ? this.#exprs.vector(x) : this.#exprs.value(x));
    const { value } = s;
    if (s.op === 'add' && s.dtype === 'f32' && value.kind === 'binary' && value.op === 'mul') {
      asm.fma(acc, get(value.a), get(value.b));
    } else this.#combine(s.op, s.dtype, acc, get(value));
  }

  #combine(op: ReduceOp, dtype: Expr['dtype'], acc: Reg, x: Reg): void {
    const asm = this.#asm;
    const out = isVector(acc) ? vectorBinary(asm, op, dtype, acc, x) : scalarBinary(asm, op, dtype, acc, x);
    if (out) asm.move(acc, out);
  }

  /** Partial results in the lanes of several vectors along the last axis, combined at the end. */
  #laneReduce(s: Extract<Stmt, { kind: 'reduce' }>, outer: readonly Axis[], last: Axis): void {
    const asm = this.#asm;
    const start = constant(s.dtype, identityOf(s.op, s.dtype));
    const carrier: Stmt = { kind: 'let', local: s.local, dtype: s.dtype, value: s.value };
    const wanted = copiesFor([carrier], last.extent, asm.lanes);
    const copies = last.limit ? powerOfTwo(wanted) : wanted;
    const accumulators = Array.from({ length: copies }, () => asm.reg(vectorType(s.dtype)));
    for (const acc of accumulators) asm.move(acc, this.#exprs.vector(start));
    const total = asm.reg(scalarType(s.dtype));
    asm.move(total, this.#exprs.value(start));
    const end = this.#endOf(last);
    const upTo = (multiple: number): Reg | number =>
      typeof end === 'number'
        ? Math.floor(end / multiple) * multiple
        : asm.op('and', [end, asm.const('i32', -multiple)]);
    const many = upTo(asm.lanes * copies);
    const vectors = upTo(asm.lanes);
    const between = typeof many === 'number' && typeof vectors === 'number' ? (vectors - many) / asm.lanes : 1;
    this.#reduceLoopsAround(s, outer, last, () => {
      this.#laneSteps(last, 0, many, copies, (copy) => this.#fold(s, accumulators[copy]));
      this.#laneSteps(last, many, vectors, between, (copy) => this.#fold(s, accumulators[copy]));
      this.#scalarSteps(last, vectors, end, () => this.#fold(s, total));
    });
    for (let width = copies; width > 1; width = Math.ceil(width / 2)) {
      for (let i = Math.ceil(width / 2); i < width; i++) {
        this.#combine(s.op, s.dtype, accumulators[i - Math.ceil(width / 2)], accumulators[i]);
      }
    }
    this.#combine(s.op, s.dtype, total, asm.horizontal(s.op, accumulators[0]));
    this.#scopes.bind(localKey(s.local), { kind: 'register', reg: total });
  }

  #reduceLoopsAround(s: Extract<Stmt, { kind: 'reduce' }>, outer: readonly Axis[], last: Axis, body: () => void): void {
    const carrier: Stmt = { kind: 'let', local: s.local, dtype: s.dtype, value: s.value };
    this.#exprs.prepare(
      [carrier],
      [...outer, last].map((a) => a.name),
      true,
    );
    if (outer.length === 0) body();
    else this.#serialLoop(outer[0], () => this.#reduceLoopsAround(s, outer.slice(1), last, body), []);
  }

  #laneSteps(axis: Axis, from: Reg | number, to: Reg | number, copies: number, emit: (copy: number) => void): void {
    if (from === to) return;
    const { lanes } = this.#asm;
    this.#asm.loop(this.#asRegister(from), this.#asRegister(to), lanes * copies, (i) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(axis.name, { kind: 'lanes', base: i, offset: 0 });
        for (let copy = 0; copy < copies; copy++) {
          this.#scopes.shift(axis.name, copy * lanes);
          emit(copy);
        }
      }),
    );
    this.#scopes.bind(axis.name, { kind: 'constant', value: 0 });
  }

  #scalarSteps(axis: Axis, from: Reg | number, to: Reg | number, emit: () => void): void {
    if (from === to) return;
    this.#asm.loop(this.#asRegister(from), this.#asRegister(to), 1, (i) =>
      this.#scopes.scope(() => {
        this.#scopes.bind(axis.name, { kind: 'register', reg: i });
        emit();
      }),
    );
  }
}

/** How many vectors a lane loop takes at a time: more where the body is short. */
function copiesFor(body: readonly Stmt[], extent: number, lanes: number): number {
  const size = bodySize(body);
  const wanted = size <= 16 ? 4 : size <= 40 ? 2 : 1;
  return Math.max(1, Math.min(wanted, Math.floor(extent / lanes)));
}

/** The largest one that is not more: where an end is known only at run time, multiples are cut off by a mask. */
const powerOfTwo = (n: number): number => 2 ** Math.floor(Math.log2(n));

/** The kernel's axes that have a limit, its statements' among them. */
function limitedAxes(kernel: Kernel): Axis[] {
  const axes = [...kernel.axes];
  eachStmt(kernel.body, (s) => {
    if (s.kind === 'for' || s.kind === 'scan') axes.push(s.axis);
    if (s.kind === 'reduce') axes.push(...s.axes);
  });
  return axes.filter((a) => a.limit);
}

/** What a reduction of nothing gives. */
export function identityOf(op: ReduceOp, dtype: Expr['dtype']): number | bigint {
  if (op === 'add') return 0;
  if (op === 'mul') return 1;
  const { kind, min, max } = DTYPES[dtype];
  if (kind === 'float') return op === 'min' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  return op === 'min' ? max : min;
}
