/**
 * Copies of a matrix product's operands from global into shared memory: cp.async, 16 bytes a thread and row, zeros where nothing is.
 *
 * A thread copies the same chunk of every row it has, so the digits of k are one set a thread, advanced by a mixed-radix addition a
 * step; a row's offset and the row's part of each guard are computed once. Rows, columns and k beyond the end are filled with zeros by
 * the copy's source size.
 */
import type { GemmContext } from './gemm-context.ts';
import { termsOf } from './gemm-context.ts';
import { coefOf } from './gemm-plan.ts';
import { copiesByTaps, hasTaps } from './gemm-taps.ts';
import { CHUNK_BYTES, STEP_BYTES } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** Issues the copies of one step into a stage (a register with its byte offset) and moves on to the next step. */
export type CopyStep = (stage: string) => void;

/** Rows of one operand that a thread copies: `count` of them, `step` rows apart. */
interface CopyPlan {
  readonly chunks: number;
  readonly step: number;
  readonly count: number;
}

/** Copies of a: returns what issues one step into a stage (a register with its byte offset) and moves on to the next. */
export function copiesOfA(g: GemmContext): CopyStep {
  const { w } = g;
  const { plan, m, k, elementBytes } = g.shape;
  const { bm } = g.tile;
  const { a } = plan;
  const copies = copyPlan(g, bm, STEP_BYTES / CHUNK_BYTES);
  const { chunk, row, at, active } = place(g, bm, copies.chunks);
  const pointer = g.pointers.get(a.buffer) as string;
  const base = termsOf(a, g.batch);
  const rows = Array.from({ length: copies.count }, (_, i) => {
    const index = linearSum(
      w,
      [
        [g.rowTile, bm],
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
    const offset = linearSum(w, [...base, ...termsOf(a, digits)], a.constant);
    const guards = a.guards.map((guard) => {
      const part = linearSum(w, termsOf(guard, [...g.batch, ...digits]), guard.constant);
      // A row beyond the end fails its first guard, whatever k is.
      return inside ? w.op('b32', 'selp.b32', part, 0x40000000, inside) : part;
    });
    return { offset, guards, inside: guards.length > 0 ? undefined : inside };
  });
  if (hasTaps(g))
    return copiesByTaps(g, rows, chunk, at, (i, to, from, bytes) =>
      copy(g, to, i * copies.step * STEP_BYTES, from, 0, bytes, active),
    );
  const digit = kDigits(g, chunk);
  const exact = (k * elementBytes) % STEP_BYTES === 0;
  return (stage) => {
    const to = w.op('b32', 'add.s32', at, stage);
    const kAt = plan.k.map((x, i) => [x.name, digit.regs[i]] as const);
    const kOffset = linearSum(w, termsOf(a, kAt), 0);
    const kParts = a.guards.map((guard) => linearSum(w, termsOf(guard, kAt), 0));
    const kInside = exact ? undefined : w.op('pred', 'setp.lt.u32', digit.flat, k);
    for (const [i, r] of rows.entries()) {
      let inside = r.inside;
      const and = (p: string): void => {
        inside = inside === undefined ? p : w.op('pred', 'and.pred', inside, p);
      };
      if (kInside) and(kInside);
      a.guards.forEach((guard, j) => {
        and(
          w.op(
            'pred',
            'setp.lt.u32',
            w.op('b32', 'add.s32', r.guards[j], kParts[j]),
            g.ends.get(guard) ?? guard.extent,
          ),
        );
      });
      const bytes = inside === undefined ? undefined : w.op('b32', 'selp.b32', CHUNK_BYTES, 0, inside);
      const offset = w.op('b32', 'add.s32', r.offset, kOffset);
      const from = w.op('b64', 'mad.wide.s32', offset, elementBytes, pointer);
      copy(g, to, i * copies.step * STEP_BYTES, from, 0, bytes, active);
    }
    digit.advance();
  };
}

/** The digits of this thread's position in k, and their advance by a step. `flat` is the position itself. */
function kDigits(g: GemmContext, chunk: string): { regs: readonly string[]; flat: string; advance: () => void } {
  const { w } = g;
  const { plan, elementBytes } = g.shape;
  const perStep = STEP_BYTES / elementBytes;
  const perChunk = CHUNK_BYTES / elementBytes;
  const flat = w.reg('b32');
  w.line(
    `mad.lo.s32 ${flat}, ${chunk}, ${perChunk}, ${g.first === 0 ? 0 : w.op('b32', 'mul.lo.u32', g.first, perStep)}`,
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

export function copiesOfB(g: GemmContext): CopyStep {
  return g.shape.b === 'columns' ? copiesOfColumns(g) : copiesOfRows(g);
}

/** b with k contiguous: packed weights, or a matrix that lies so. */
function copiesOfRows(g: GemmContext): CopyStep {
  const { w } = g;
  const { plan, n, k, steps, elementBytes, b: kind } = g.shape;
  const { bm, bn } = g.tile;
  const copies = copyPlan(g, bn, STEP_BYTES / CHUNK_BYTES);
  const { chunk, row, at, active } = place(g, bn, copies.chunks);
  const packed = kind === 'packed';
  const pitch = packed ? steps * STEP_BYTES : coefOf(plan.b, plan.n[0]?.name ?? '') * elementBytes;
  const column = linearSum(w, [...(g.columnTile ? [[g.columnTile, bn] as const] : []), [row, 1]], 0);
  const pointer = w.reg('b64');
  w.line(`mad.wide.u32 ${pointer}, ${column}, ${pitch}, ${bBase(g, packed)}`);
  w.line(
    `mad.wide.u32 ${pointer}, ${linearSum(w, [[chunk, CHUNK_BYTES], ...(g.first === 0 ? [] : [[g.first as string, STEP_BYTES] as const])], 0)}, 1, ${pointer}`,
  );
  const inside = Array.from({ length: copies.count }, (_, i) =>
    n % bn === 0 ? undefined : w.op('pred', 'setp.lt.s32', column, n - i * copies.step),
  );
  const exact = packed || (k * elementBytes) % STEP_BYTES === 0;
  const left = exact ? '' : linearSum(w, [[chunk, -CHUNK_BYTES / elementBytes]], k);
  if (!exact && g.first !== 0) w.line(`mad.lo.s32 ${left}, ${g.first}, ${-STEP_BYTES / elementBytes}, ${left}`);
  return (stage) => {
    const to = w.op('b32', 'add.s32', at, stage);
    const kInside = exact ? undefined : w.op('pred', 'setp.gt.s32', left, 0);
    for (const [i, p] of inside.entries()) {
      const both = p && kInside ? w.op('pred', 'and.pred', p, kInside) : (p ?? kInside);
      const bytes = both && w.op('b32', 'selp.b32', CHUNK_BYTES, 0, both);
      copy(g, to, (bm + i * copies.step) * STEP_BYTES, pointer, i * copies.step * pitch, bytes, active);
    }
    w.line(`add.s64 ${pointer}, ${pointer}, ${STEP_BYTES}`);
    if (!exact) w.line(`sub.s32 ${left}, ${left}, ${STEP_BYTES / elementBytes}`);
  };
}

/** b with columns contiguous: a stage holds rows of k. */
function copiesOfColumns(g: GemmContext): (stage: string) => void {
  const { w } = g;
  const { plan, n, k, elementBytes } = g.shape;
  const { bm, bn } = g.tile;
  const perStep = STEP_BYTES / elementBytes;
  const perChunk = CHUNK_BYTES / elementBytes;
  const copies = copyPlan(g, perStep, bn / perChunk);
  const { chunk, row, at, active } = place(g, perStep, copies.chunks);
  const pitch = coefOf(plan.b, plan.k[0].name) * elementBytes;
  const column = linearSum(w, [...(g.columnTile ? [[g.columnTile, bn] as const] : []), [chunk, perChunk]], 0);
  const columnInside = n % bn === 0 ? undefined : w.op('pred', 'setp.lt.u32', column, n);
  const pointer = w.reg('b64');
  w.line(`mad.wide.u32 ${pointer}, ${column}, ${elementBytes}, ${bBase(g, false)}`);
  const kRow = linearSum(w, [[row, 1], ...(g.first === 0 ? [] : [[g.first as string, perStep] as const])], 0);
  w.line(`mad.wide.u32 ${pointer}, ${kRow}, ${pitch}, ${pointer}`);
  const left = k % perStep === 0 ? undefined : w.op('b32', 'sub.s32', k, kRow);
  return (stage) => {
    const to = w.op('b32', 'add.s32', at, stage);
    for (let i = 0; i < copies.count; i++) {
      const kInside = left && w.op('pred', 'setp.gt.s32', left, i * copies.step);
      const both =
        columnInside && kInside ? w.op('pred', 'and.pred', columnInside, kInside) : (columnInside ?? kInside);
      const bytes = both && w.op('b32', 'selp.b32', CHUNK_BYTES, 0, both);
      copy(
        g,
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
function bBase(g: GemmContext, packed: boolean): string {
  const { w } = g;
  const { plan, n, steps, elementBytes } = g.shape;
  const pointer = g.pointers.get(plan.b.buffer) as string;
  if (packed) {
    if (plan.batch.length === 0) return pointer;
    return w.op('b64', 'mad.wide.u32', w.op('b32', 'mov.u32', '%ctaid.y'), n * steps * STEP_BYTES, pointer);
  }
  const offset = linearSum(w, termsOf(plan.b, g.batch), plan.b.constant);
  return w.op('b64', 'mad.wide.s32', offset, elementBytes, pointer);
}

function copyPlan(g: GemmContext, rows: number, chunks: number): CopyPlan {
  const step = g.threads / chunks;
  return { chunks, step, count: Math.max(1, rows / step) };
}

/** The chunk and first row of this thread, and where they lie in a stage. Threads beyond the rows get a predicate that is false. */
function place(
  g: GemmContext,
  rows: number,
  chunks: number,
): { chunk: string; row: string; at: string; active: string | undefined } {
  const { w } = g;
  const chunk = w.op('b32', 'and.b32', g.tid, chunks - 1);
  const row = w.op('b32', 'shr.u32', g.tid, Math.log2(chunks));
  const swizzled = w.op('b32', 'xor.b32', chunk, w.op('b32', 'and.b32', row, 7));
  const at = w.op(
    'b32',
    'add.s32',
    g.shared,
    linearSum(
      w,
      [
        [row, chunks * CHUNK_BYTES],
        [swizzled, CHUNK_BYTES],
      ],
      0,
    ),
  );
  const active = g.threads / chunks > rows ? w.op('pred', 'setp.lt.u32', row, rows) : undefined;
  return { chunk, row, at, active };
}

function copy(
  g: GemmContext,
  to: string,
  toOffset: number,
  from: string,
  fromOffset: number,
  bytes: string | undefined,
  active: string | undefined,
): void {
  const size = bytes === undefined ? '' : `, ${bytes}`;
  g.w.line(
    `${active ? `@${active} ` : ''}cp.async.cg.shared.global [${to}+${toOffset}], [${from}+${fromOffset}], ${CHUNK_BYTES}${size}`,
  );
}
