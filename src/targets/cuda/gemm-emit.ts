/**
 * PTX of the tensor-core matrix product: one entry that computes bm × bn tiles of a contract.
 *
 *     a, b ─cp.async, 16 bytes a thread→ shared memory, `stages` deep ─ldmatrix→ fragments ─mma.sync→ sums in registers
 *     sums → shared memory → (of all blocks of the cluster, where they split k) → epilogue, 8 columns a thread → out
 *
 * Shared memory of a stage: rows of a, then of b, 128 bytes each, chunk c of row r at place c xor (r mod 8), so that neither the
 * copies nor ldmatrix meet in a bank ("columns": rows of k, the same with the chunks of a row of columns). A thread copies the same
 * chunk of every row it has, so the digits of k are one set a thread, advanced by a mixed-radix addition a step; a row's offset and
 * the row's part of each guard are computed once. Rows, columns and k beyond the end are filled with zeros by the copy's source size.
 * Weights do not depend on the kernel before, so their first stages are asked for before it is waited for.
 */
import type { Axis, Kernel } from '../../loop/ir.ts';
import { emitEpilogue, epilogueIndices } from './gemm-epilogue.ts';
import { coefOf, type Linear, mergeAxes } from './gemm-plan.ts';
import { CHUNK_BYTES, type GemmShape, STEP_BYTES, stageBytes, sumPitch, type TileParams } from './gemm-tiles.ts';
import { digitsOf, linearSum, PtxText } from './ptx-text.ts';

export interface EmittedEntry {
  readonly text: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly cluster: readonly [number, number, number] | undefined;
}

export interface GemmChip {
  readonly computeCapability: number;
}

export function emitGemm(
  name: string,
  kernel: Kernel,
  shape: GemmShape,
  tile: TileParams,
  chip: GemmChip,
): EmittedEntry {
  return new GemmEmitter(kernel, shape, tile, chip).emit(name);
}

/** Rows of one operand that a thread copies: `count` of them, `step` rows apart. */
interface CopyPlan {
  readonly chunks: number;
  readonly step: number;
  readonly count: number;
}

class GemmEmitter {
  readonly #w = new PtxText();
  readonly #kernel: Kernel;
  readonly #s: GemmShape;
  readonly #t: TileParams;
  readonly #dependent: boolean;
  readonly #threads: number;
  readonly #pointers = new Map<string, string>();

  // Registers that several parts of the kernel use.
  #tid = '';
  #lane = '';
  #warp = '';
  #rank = '';
  #rowTile = '';
  #columnTile = '';
  #batch: ReadonlyMap<string, string> = new Map();
  #shared = '';
  /** Steps of k: this block's first and end. */
  #first: string | number = 0;
  #end: string | number = 0;

  constructor(kernel: Kernel, shape: GemmShape, tile: TileParams, chip: GemmChip) {
    this.#kernel = kernel;
    this.#s = shape;
    this.#t = tile;
    this.#dependent = chip.computeCapability >= 90;
    this.#threads = tile.wm * tile.wn * 32;
  }

  emit(name: string): EmittedEntry {
    const w = this.#w;
    const { m, n, batch } = this.#s;
    const { bm, bn, split } = this.#t;
    this.#prologue();
    const sums = this.#mainLoop();
    this.#finish(sums);
    w.line('ret');
    const directives = [`.maxntid ${this.#threads}, 1, 1`, ...(split > 1 ? [`.reqnctapercluster ${split}, 1, 1`] : [])];
    return {
      text: w.entry(
        name,
        this.#kernel.buffers.map((_, i) => `p${i}`),
        directives,
      ),
      grid: [Math.ceil(m / bm) * Math.ceil(n / bn) * split, batch, 1],
      block: [this.#threads, 1, 1],
      cluster: split > 1 ? [split, 1, 1] : undefined,
    };
  }

  #prologue(): void {
    const w = this.#w;
    const { n, steps, plan } = this.#s;
    const { bn, split } = this.#t;
    for (const [i, b] of this.#kernel.buffers.entries())
      this.#pointers.set(b.name, w.op('b64', 'ld.param.u64', `[p${i}]`));
    this.#tid = w.op('b32', 'mov.u32', '%tid.x');
    this.#lane = w.op('b32', 'and.b32', this.#tid, 31);
    this.#warp = w.op('b32', 'shr.u32', this.#tid, 5);
    this.#shared = w.op('b32', 'mov.u32', 'dynamic');
    let tile = w.op('b32', 'mov.u32', '%ctaid.x');
    if (split > 1) {
      this.#rank = w.op('b32', 'and.b32', tile, split - 1);
      tile = w.op('b32', 'shr.u32', tile, Math.log2(split));
    }
    const columns = Math.ceil(n / bn);
    [this.#rowTile, this.#columnTile] = columns === 1 ? [tile, ''] : digitsOf(w, tile, [0, columns]);
    const batch =
      plan.batch.length > 0
        ? digitsOf(
            w,
            w.op('b32', 'mov.u32', '%ctaid.y'),
            plan.batch.map((a) => a.extent),
          )
        : [];
    this.#batch = new Map(plan.batch.map((a, i) => [a.name, batch[i]]));
    if (split > 1) {
      const at = (rank: string): string => w.op('b32', 'div.u32', w.op('b32', 'mul.lo.u32', rank, steps), split);
      this.#first = at(this.#rank);
      this.#end = at(w.op('b32', 'add.s32', this.#rank, 1));
    } else this.#end = steps;
  }

  /** Registers times their coefficients in a linear form. */
  #terms(form: Linear, digits: Iterable<readonly [string, string]>): (readonly [string, number])[] {
    return [...digits].map(([axis, reg]) => [reg, coefOf(form, axis)] as const);
  }

  // ── Copies ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #copyPlan(rows: number, chunks: number): CopyPlan {
    const step = this.#threads / chunks;
    return { chunks, step, count: Math.max(1, rows / step) };
  }

  /** The chunk and first row of this thread, and where they lie in a stage. Threads beyond the rows get a predicate that is false. */
  #place(rows: number, chunks: number): { chunk: string; row: string; at: string; active: string | undefined } {
    const w = this.#w;
    const chunk = w.op('b32', 'and.b32', this.#tid, chunks - 1);
    const row = w.op('b32', 'shr.u32', this.#tid, Math.log2(chunks));
    const swizzled = w.op('b32', 'xor.b32', chunk, w.op('b32', 'and.b32', row, 7));
    const at = w.op(
      'b32',
      'add.s32',
      this.#shared,
      linearSum(
        w,
        [
          [row, chunks * CHUNK_BYTES],
          [swizzled, CHUNK_BYTES],
        ],
        0,
      ),
    );
    const active = this.#threads / chunks > rows ? w.op('pred', 'setp.lt.u32', row, rows) : undefined;
    return { chunk, row, at, active };
  }

  #copy(
    to: string,
    toOffset: number,
    from: string,
    fromOffset: number,
    bytes: string | undefined,
    active: string | undefined,
  ): void {
    const size = bytes === undefined ? '' : `, ${bytes}`;
    this.#w.line(
      `${active ? `@${active} ` : ''}cp.async.cg.shared.global [${to}+${toOffset}], [${from}+${fromOffset}], ${CHUNK_BYTES}${size}`,
    );
  }

  /** Copies of a: returns what issues one step into a stage (a register with its byte offset) and moves on to the next. */
  #copiesOfA(): (stage: string) => void {
    const w = this.#w;
    const { plan, m, k, elementBytes } = this.#s;
    const { bm } = this.#t;
    const { a } = plan;
    const copies = this.#copyPlan(bm, STEP_BYTES / CHUNK_BYTES);
    const { chunk, row, at, active } = this.#place(bm, copies.chunks);
    const pointer = this.#pointers.get(a.buffer) as string;
    const base = this.#terms(a, this.#batch);
    const rows = Array.from({ length: copies.count }, (_, i) => {
      const index = linearSum(
        w,
        [
          [this.#rowTile, bm],
          [row, 1],
        ],
        i * copies.step,
      );
      const inside = m % bm === 0 ? undefined : w.op('pred', 'setp.lt.u32', index, m);
      const digits = digitsOf(
        w,
        index,
        plan.m.map((x) => x.extent),
      ).map((reg, j) => [plan.m[j].name, reg] as const);
      const offset = linearSum(w, [...base, ...this.#terms(a, digits)], a.constant);
      const guards = a.guards.map((g) => {
        const part = linearSum(w, this.#terms(g, [...this.#batch, ...digits]), g.constant);
        // A row beyond the end fails its first guard, whatever k is.
        return inside ? w.op('b32', 'selp.b32', part, 0x40000000, inside) : part;
      });
      return { offset, guards, inside: guards.length > 0 ? undefined : inside };
    });
    const digit = this.#kDigits(chunk);
    const exact = (k * elementBytes) % STEP_BYTES === 0;
    return (stage) => {
      const to = w.op('b32', 'add.s32', at, stage);
      const kDigits = plan.k.map((x, i) => [x.name, digit.regs[i]] as const);
      const kOffset = linearSum(w, this.#terms(a, kDigits), 0);
      const kParts = a.guards.map((g) => linearSum(w, this.#terms(g, kDigits), 0));
      const kInside = exact ? undefined : w.op('pred', 'setp.lt.u32', digit.flat, k);
      for (const [i, r] of rows.entries()) {
        let inside = r.inside;
        const and = (p: string): void => {
          inside = inside === undefined ? p : w.op('pred', 'and.pred', inside, p);
        };
        if (kInside) and(kInside);
        a.guards.forEach((g, j) => {
          and(w.op('pred', 'setp.lt.u32', w.op('b32', 'add.s32', r.guards[j], kParts[j]), g.extent));
        });
        const bytes = inside === undefined ? undefined : w.op('b32', 'selp.b32', CHUNK_BYTES, 0, inside);
        const offset = w.op('b32', 'add.s32', r.offset, kOffset);
        const from = w.op('b64', 'mad.wide.s32', offset, elementBytes, pointer);
        this.#copy(to, i * copies.step * STEP_BYTES, from, 0, bytes, active);
      }
      digit.advance();
    };
  }

  /** The digits of this thread's position in k, and their advance by a step. `flat` is the position itself. */
  #kDigits(chunk: string): { regs: readonly string[]; flat: string; advance: () => void } {
    const w = this.#w;
    const { plan, elementBytes } = this.#s;
    const perStep = STEP_BYTES / elementBytes;
    const perChunk = CHUNK_BYTES / elementBytes;
    const flat = w.reg('b32');
    w.line(
      `mad.lo.s32 ${flat}, ${chunk}, ${perChunk}, ${this.#first === 0 ? 0 : w.op('b32', 'mul.lo.u32', this.#first, perStep)}`,
    );
    const extents = plan.k.map((x) => x.extent);
    const regs = digitsOf(w, flat, extents).map((d) => {
      const own = w.reg('b32');
      w.line(`mov.b32 ${own}, ${d}`);
      return own;
    });
    const advance = (): void => {
      w.line(`add.s32 ${flat}, ${flat}, ${perStep}`);
      let rest = perStep;
      let carry: string | undefined;
      for (let i = extents.length - 1; i >= 0; i--) {
        const add = i === 0 ? rest : rest % extents[i];
        rest = Math.floor(rest / extents[i]);
        w.line(`add.s32 ${regs[i]}, ${regs[i]}, ${add}`);
        if (carry) w.line(`@${carry} add.s32 ${regs[i]}, ${regs[i]}, 1`);
        if (i === 0) break;
        carry = w.op('pred', 'setp.ge.u32', regs[i], extents[i]);
        w.line(`@${carry} sub.s32 ${regs[i]}, ${regs[i]}, ${extents[i]}`);
      }
    };
    return { regs, flat, advance };
  }

  #copiesOfB(): (stage: string) => void {
    return this.#s.b === 'columns' ? this.#copiesOfColumns() : this.#copiesOfRows();
  }

  /** b with k contiguous: packed weights, or a matrix that lies so. */
  #copiesOfRows(): (stage: string) => void {
    const w = this.#w;
    const { plan, n, k, steps, elementBytes, b: kind } = this.#s;
    const { bm, bn } = this.#t;
    const copies = this.#copyPlan(bn, STEP_BYTES / CHUNK_BYTES);
    const { chunk, row, at, active } = this.#place(bn, copies.chunks);
    const packed = kind === 'packed';
    const pitch = packed ? steps * STEP_BYTES : coefOf(plan.b, plan.n[0]?.name ?? '') * elementBytes;
    const column = linearSum(w, [...(this.#columnTile ? [[this.#columnTile, bn] as const] : []), [row, 1]], 0);
    const pointer = w.reg('b64');
    w.line(`mad.wide.u32 ${pointer}, ${column}, ${pitch}, ${this.#bBase(packed)}`);
    w.line(
      `mad.wide.u32 ${pointer}, ${linearSum(w, [[chunk, CHUNK_BYTES], ...(this.#first === 0 ? [] : [[this.#first as string, STEP_BYTES] as const])], 0)}, 1, ${pointer}`,
    );
    const inside = Array.from({ length: copies.count }, (_, i) =>
      n % bn === 0 ? undefined : w.op('pred', 'setp.lt.s32', column, n - i * copies.step),
    );
    const exact = packed || (k * elementBytes) % STEP_BYTES === 0;
    const left = exact ? '' : linearSum(w, [[chunk, -CHUNK_BYTES / elementBytes]], k);
    if (!exact && this.#first !== 0)
      w.line(`mad.lo.s32 ${left}, ${this.#first}, ${-STEP_BYTES / elementBytes}, ${left}`);
    return (stage) => {
      const to = w.op('b32', 'add.s32', at, stage);
      const kInside = exact ? undefined : w.op('pred', 'setp.gt.s32', left, 0);
      for (const [i, p] of inside.entries()) {
        const both = p && kInside ? w.op('pred', 'and.pred', p, kInside) : (p ?? kInside);
        const bytes = both && w.op('b32', 'selp.b32', CHUNK_BYTES, 0, both);
        this.#copy(to, (bm + i * copies.step) * STEP_BYTES, pointer, i * copies.step * pitch, bytes, active);
      }
      w.line(`add.s64 ${pointer}, ${pointer}, ${STEP_BYTES}`);
      if (!exact) w.line(`sub.s32 ${left}, ${left}, ${STEP_BYTES / elementBytes}`);
    };
  }

  /** b with columns contiguous: a stage holds rows of k. */
  #copiesOfColumns(): (stage: string) => void {
    const w = this.#w;
    const { plan, n, k, elementBytes } = this.#s;
    const { bm, bn } = this.#t;
    const perStep = STEP_BYTES / elementBytes;
    const perChunk = CHUNK_BYTES / elementBytes;
    const copies = this.#copyPlan(perStep, bn / perChunk);
    const { chunk, row, at, active } = this.#place(perStep, copies.chunks);
    const pitch = coefOf(plan.b, plan.k[0].name) * elementBytes;
    const column = linearSum(w, [...(this.#columnTile ? [[this.#columnTile, bn] as const] : []), [chunk, perChunk]], 0);
    const columnInside = n % bn === 0 ? undefined : w.op('pred', 'setp.lt.u32', column, n);
    const pointer = w.reg('b64');
    w.line(`mad.wide.u32 ${pointer}, ${column}, ${elementBytes}, ${this.#bBase(false)}`);
    const kRow = linearSum(w, [[row, 1], ...(this.#first === 0 ? [] : [[this.#first as string, perStep] as const])], 0);
    w.line(`mad.wide.u32 ${pointer}, ${kRow}, ${pitch}, ${pointer}`);
    const left = k % perStep === 0 ? undefined : w.op('b32', 'sub.s32', k, kRow);
    return (stage) => {
      const to = w.op('b32', 'add.s32', at, stage);
      for (let i = 0; i < copies.count; i++) {
        const kInside = left && w.op('pred', 'setp.gt.s32', left, i * copies.step);
        const both =
          columnInside && kInside ? w.op('pred', 'and.pred', columnInside, kInside) : (columnInside ?? kInside);
        const bytes = both && w.op('b32', 'selp.b32', CHUNK_BYTES, 0, both);
        this.#copy(
          to,
          bm * STEP_BYTES + i * copies.step * bn * elementBytes,
          pointer,
          i * copies.step * pitch,
          bytes,
          active,
        );
      }
      w.line(`add.s64 ${pointer}, ${pointer}, ${perStep * pitch}`);
      if (left) w.line(`sub.s32 ${left}, ${left}, ${perStep}`);
    };
  }

  /** Where this batch's part of b begins. */
  #bBase(packed: boolean): string {
    const w = this.#w;
    const { plan, n, steps, elementBytes } = this.#s;
    const pointer = this.#pointers.get(plan.b.buffer) as string;
    if (packed) {
      if (plan.batch.length === 0) return pointer;
      return w.op('b64', 'mad.wide.u32', w.op('b32', 'mov.u32', '%ctaid.y'), n * steps * STEP_BYTES, pointer);
    }
    const offset = linearSum(w, this.#terms(plan.b, this.#batch), plan.b.constant);
    return w.op('b64', 'mad.wide.s32', offset, elementBytes, pointer);
  }

  // ── Products ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The sums of this thread: [m tile of 16][n tile of 8][4]. */
  #mainLoop(): string[][][] {
    const w = this.#w;
    const { bm, bn, wm, wn, stages } = this.#t;
    const [rows, columns] = [bm / wm / 16, bn / wn / 8];
    const bytes = stageBytes(this.#t);
    const copyB = this.#copiesOfB();
    const bFirst = this.#dependent && this.#s.b === 'packed';
    const loading = w.reg('b32');
    w.line(`mov.b32 ${loading}, ${this.#first}`);
    const guarded = (i: number, body: () => void): void => {
      const beyond = w.op(
        'pred',
        'setp.le.s32',
        this.#end,
        typeof this.#first === 'number' ? i : w.op('b32', 'add.s32', this.#first, i),
      );
      const skip = w.newLabel();
      w.line(`@${beyond} bra ${skip}`);
      body();
      w.label(skip);
    };
    const stageAt = (i: number): string => w.op('b32', 'mov.b32', i * bytes);
    if (this.#dependent) w.line('griddepcontrol.launch_dependents');
    if (bFirst) for (let i = 0; i < stages - 1; i++) guarded(i, () => copyB(stageAt(i)));
    const copyA = this.#copiesOfA();
    if (this.#dependent) w.line('griddepcontrol.wait');
    for (let i = 0; i < stages - 1; i++) {
      guarded(i, () => {
        const at = stageAt(i);
        copyA(at);
        if (!bFirst) copyB(at);
      });
      w.line('cp.async.commit_group');
    }
    w.line(`add.s32 ${loading}, ${loading}, ${stages - 1}`);
    const sums = Array.from({ length: rows }, () => Array.from({ length: columns }, () => w.regs('f32', 4)));
    for (const x of sums.flat(2)) w.line(`mov.f32 ${x}, 0f00000000`);
    const fragments = this.#fragments(rows, columns);
    const [to, from, step] = w.regs('b32', 3);
    w.line(`mov.b32 ${to}, ${(stages - 1) * bytes}`);
    w.line(`mov.b32 ${from}, 0`);
    w.line(`mov.b32 ${step}, ${this.#first}`);
    const turn = (x: string): void => {
      w.line(`add.s32 ${x}, ${x}, ${bytes}`);
      w.line(`@${w.op('pred', 'setp.eq.s32', x, stages * bytes)} mov.b32 ${x}, 0`);
    };
    const [loop, skip] = [w.newLabel(), w.newLabel()];
    w.label(loop);
    w.line(`cp.async.wait_group ${stages - 2}`);
    w.line('bar.sync 0');
    w.line(`@${w.op('pred', 'setp.ge.s32', loading, this.#end)} bra ${skip}`);
    copyA(to);
    copyB(to);
    w.label(skip);
    w.line('cp.async.commit_group');
    fragments(from, sums);
    turn(to);
    turn(from);
    w.line(`add.s32 ${loading}, ${loading}, 1`);
    w.line(`add.s32 ${step}, ${step}, 1`);
    w.line(`@${w.op('pred', 'setp.lt.s32', step, this.#end)} bra ${loop}`);
    return sums;
  }

  /** What multiplies one stage: four slices of 32 bytes of k, the fragments of the next loaded before the products of this. */
  #fragments(
    rows: number,
    columns: number,
  ): (stage: string, sums: readonly (readonly (readonly string[])[])[]) => void {
    const w = this.#w;
    const { wm, wn, bm, bn } = this.#t;
    const { dtype, b } = this.#s;
    const [warpRow, warpColumn] =
      wn === 1 ? [this.#warp, ''] : wm === 1 ? ['', this.#warp] : digitsOf(w, this.#warp, [wm, wn]);
    const low = w.op('b32', 'and.b32', this.#lane, 7);
    const bit = (n: number): string => w.op('b32', 'and.b32', w.op('b32', 'shr.u32', this.#lane, n), 1);
    const slices = [0, 1, 2, 3];
    // a: lanes 0-15 address rows, lane bit 4 the upper half of the slice.
    const aRow = linearSum(
      w,
      [...(warpRow ? [[warpRow, bm / wm] as const] : []), [w.op('b32', 'and.b32', this.#lane, 15), 1]],
      0,
    );
    const aHalf = w.op('b32', 'xor.b32', bit(4), low);
    const aAt = slices.map((s) => {
      const place = w.op('b32', 'xor.b32', aHalf, 2 * s);
      return w.op(
        'b32',
        'add.s32',
        this.#shared,
        linearSum(
          w,
          [
            [aRow, STEP_BYTES],
            [place, CHUNK_BYTES],
          ],
          0,
        ),
      );
    });
    const bAt = slices.map((s) => {
      if (b !== 'columns') {
        // Lane bit 4: columns 8 to 15, bit 3: the upper half of the slice.
        const row = linearSum(w, [...(warpColumn ? [[warpColumn, bn / wn] as const] : []), [bit(4), 8], [low, 1]], 0);
        const place = w.op('b32', 'xor.b32', w.op('b32', 'xor.b32', bit(3), low), 2 * s);
        return w.op(
          'b32',
          'add.s32',
          this.#shared,
          linearSum(
            w,
            [
              [row, STEP_BYTES],
              [place, CHUNK_BYTES],
            ],
            bm * STEP_BYTES,
          ),
        );
      }
      const row = linearSum(
        w,
        [
          [bit(3), 8],
          [low, 1],
        ],
        16 * s,
      );
      return linearSum(
        w,
        [
          [this.#shared, 1],
          [row, bn * 2],
        ],
        bm * STEP_BYTES,
      );
    });
    const columnChunk =
      b === 'columns'
        ? linearSum(w, [...(warpColumn ? [[warpColumn, bn / wn / 8] as const] : []), [bit(4), 1]], 0)
        : '';
    const load = (stage: string, s: number) => {
      const atA = w.op('b32', 'add.s32', aAt[s], stage);
      const atB = w.op('b32', 'add.s32', bAt[s], stage);
      const a = Array.from({ length: rows }, (_, i) =>
        this.#ldmatrix(4, `${atA}+${i * 16 * STEP_BYTES}`, false).map((x) => this.#rounded(x, true)),
      );
      const bs: string[][] = [];
      for (let j = 0; j < columns; j += 2) {
        const pair = columns - j > 1;
        let at = `${atB}+${j * 8 * STEP_BYTES}`;
        if (b === 'columns') {
          const place = w.op('b32', 'xor.b32', linearSum(w, [[columnChunk, 1]], j), low);
          at = w.op('b32', 'mad.lo.s32', place, CHUNK_BYTES, atB);
        }
        const r = this.#ldmatrix(pair ? 4 : 2, at, b === 'columns').map((x) => this.#rounded(x, b !== 'packed'));
        bs.push(r.slice(0, 2));
        if (pair) bs.push(r.slice(2));
      }
      return { a, bs };
    };
    const instruction =
      dtype === 'f32' ? 'm16n8k8.row.col.f32.tf32.tf32.f32' : `m16n8k16.row.col.f32.${dtype}.${dtype}.f32`;
    return (stage, sums) => {
      let now = load(stage, 0);
      for (const s of slices) {
        const next = s < 3 ? load(stage, s + 1) : now;
        for (const [i, a] of now.a.entries()) {
          for (const [j, bf] of now.bs.entries()) {
            const d = `{${sums[i][j].join(', ')}}`;
            w.line(`mma.sync.aligned.${instruction} ${d}, {${a.join(', ')}}, {${bf.join(', ')}}, ${d}`);
          }
        }
        now = next;
      }
    };
  }

  #ldmatrix(count: number, at: string, transposed: boolean): string[] {
    const d = this.#w.regs('b32', count);
    this.#w.line(
      `ldmatrix.sync.aligned.m8n8.x${count}${transposed ? '.trans' : ''}.shared.b16 {${d.join(', ')}}, [${at}]`,
    );
    return d;
  }

  /** tf32 operands are rounded, not cut off; packed weights are rounded already. */
  #rounded(x: string, needed: boolean): string {
    if (this.#s.dtype !== 'f32' || !needed) return x;
    return this.#w.op('b32', 'cvt.rna.tf32.f32', this.#w.op('f32', 'mov.b32', x));
  }

  // ── Sums to outputs ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #finish(sums: readonly (readonly (readonly string[])[])[]): void {
    const w = this.#w;
    const { bm, bn, wm, wn, split } = this.#t;
    const pitch = sumPitch(this.#t);
    w.line('cp.async.wait_group 0');
    w.line('bar.sync 0');
    const [warpRow, warpColumn] =
      wn === 1 ? [this.#warp, ''] : wm === 1 ? ['', this.#warp] : digitsOf(w, this.#warp, [wm, wn]);
    const g = w.op('b32', 'shr.u32', this.#lane, 2);
    const t = w.op('b32', 'and.b32', this.#lane, 3);
    const at = linearSum(
      w,
      [
        [this.#shared, 1],
        [g, pitch],
        [t, 8],
        ...(warpRow ? [[warpRow, (bm / wm) * pitch] as const] : []),
        ...(warpColumn ? [[warpColumn, (bn / wn) * 4] as const] : []),
      ],
      0,
    );
    for (const [i, row] of sums.entries()) {
      for (const [j, s] of row.entries()) {
        w.line(`st.shared.v2.f32 [${at}+${i * 16 * pitch + j * 32}], {${s[0]}, ${s[1]}}`);
        w.line(`st.shared.v2.f32 [${at}+${(i * 16 + 8) * pitch + j * 32}], {${s[2]}, ${s[3]}}`);
      }
    }
    if (split > 1) {
      w.line('barrier.cluster.arrive.release');
      w.line('barrier.cluster.wait.acquire');
    } else w.line('bar.sync 0');
    this.#outputs(pitch);
    if (split > 1) {
      // A block's shared memory must outlive its readers.
      w.line('barrier.cluster.arrive.release');
      w.line('barrier.cluster.wait.acquire');
    }
  }

  /** This block's rows of the tile, 8 columns a thread and turn. */
  #outputs(pitch: number): void {
    const w = this.#w;
    const { m, n, plan } = this.#s;
    const { bm, bn, split } = this.#t;
    const perRow = bn / 8;
    const rows = bm / split;
    const rowStep = this.#threads / perRow;
    const turns = Math.max(1, rows / rowStep);
    const column = w.op('b32', 'mul.lo.u32', w.op('b32', 'and.b32', this.#tid, perRow - 1), 8);
    let row = w.op('b32', 'shr.u32', this.#tid, Math.log2(perRow));
    const done = w.newLabel();
    if (rowStep > rows) w.line(`@${w.op('pred', 'setp.ge.u32', row, rows)} bra ${done}`);
    if (split > 1)
      row = linearSum(
        w,
        [
          [row, 1],
          [this.#rank, rows],
        ],
        0,
      );
    const n0 = linearSum(w, [[column, 1], ...(this.#columnTile ? [[this.#columnTile, bn] as const] : [])], 0);
    if (n % bn !== 0) w.line(`@${w.op('pred', 'setp.ge.u32', n0, n)} bra ${done}`);
    const m0 = linearSum(
      w,
      [
        [row, 1],
        [this.#rowTile, bm],
      ],
      0,
    );
    const source = linearSum(
      w,
      [
        [this.#shared, 1],
        [row, pitch],
        [column, 4],
      ],
      0,
    );
    const sources =
      split === 1
        ? [source]
        : Array.from({ length: split }, (_, r) => w.op('b32', 'mapa.shared::cluster.u32', source, r));
    for (let i = 0; i < turns; i++) {
      const index = linearSum(w, [[m0, 1]], i * rowStep);
      if (m % bm !== 0) w.line(`@${w.op('pred', 'setp.ge.u32', index, m)} bra ${done}`);
      const sums = this.#sumOf(sources, i * rowStep * pitch);
      const digits = this.#outputDigits(index);
      const axis = plan.form.axes.find((x) => x.role === 'n' && x.extent > 1);
      if (n % 8 === 0) this.#epilogue(digits, axis, n0, sums);
      else this.#singleColumns(digits, axis, n0, sums);
    }
    w.label(done);
  }

  /** 8 sums, added up over the blocks of the cluster. */
  #sumOf(sources: readonly string[], offset: number): string[] {
    const w = this.#w;
    const space = sources.length > 1 ? 'shared::cluster' : 'shared';
    const parts = sources.map((s) =>
      [0, 16].flatMap((half) => {
        const v = w.regs('f32', 4);
        w.line(`ld.${space}.v4.f32 {${v.join(', ')}}, [${s}+${offset + half}]`);
        return v;
      }),
    );
    return parts.reduce((x, y) => x.map((v, i) => w.op('f32', 'add.f32', v, y[i])));
  }

  /** The form's own m and batch axes, of which the plan may have merged some. */
  #outputDigits(index: string): Map<string, string> {
    const w = this.#w;
    const { plan } = this.#s;
    const own = plan.form.axes.filter((x) => x.role === 'm' && x.extent > 1);
    const merged = mergeAxes(own, epilogueIndices(plan.form.epilogue));
    const regs = digitsOf(
      w,
      index,
      merged.map((x) => x.extent),
    );
    return new Map([...merged.map((x, i) => [x.name, regs[i]] as const), ...this.#batch]);
  }

  #epilogue(digits: Map<string, string>, axis: Axis | undefined, n0: string, sums: readonly string[]): void {
    const place = {
      digits: axis ? new Map([...digits, [axis.name, n0]]) : digits,
      column: axis,
      width: 8,
      pointers: this.#pointers,
    };
    emitEpilogue(this.#w, this.#kernel, this.#s.plan.form.epilogue, place, sums);
  }

  /** Columns one by one, where their number is no multiple of 8. */
  #singleColumns(digits: Map<string, string>, axis: Axis | undefined, n0: string, sums: readonly string[]): void {
    const w = this.#w;
    const skip = w.newLabel();
    for (const [j, sum] of sums.entries()) {
      const at = linearSum(w, [[n0, 1]], j);
      w.line(`@${w.op('pred', 'setp.ge.u32', at, this.#s.n)} bra ${skip}`);
      const place = {
        digits: axis ? new Map([...digits, [axis.name, at]]) : digits,
        column: axis,
        width: 1,
        pointers: this.#pointers,
      };
      emitEpilogue(w, this.#kernel, this.#s.plan.form.epilogue, place, [sum]);
    }
    w.label(skip);
  }
}
