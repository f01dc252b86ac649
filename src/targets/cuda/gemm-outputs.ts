/**
 * From sums in registers to the outputs: through shared memory, so that a thread gets 8 columns of a row and moves 16 bytes at a time.
 * Where the blocks of a cluster share k, each adds up its part of the rows from all their shared memories.
 */
import type { Axis } from '../../loop/ir.ts';
import type { GemmContext } from './gemm-context.ts';
import { emitEpilogue, epilogueIndices } from './gemm-epilogue.ts';
import { mergeAxes } from './gemm-plan.ts';
import type { Sums } from './gemm-products.ts';
import { sumPitch } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

export function storeSums(g: GemmContext, sums: Sums): void {
  const { w } = g;
  const { bm, bn, wm, wn, split } = g.tile;
  const pitch = sumPitch(g.tile);
  w.line('cp.async.wait_group 0');
  w.line('bar.sync 0');
  const [warpRow, warpColumn] = wn === 1 ? [g.warp, ''] : wm === 1 ? ['', g.warp] : digitsOf(w, g.warp, [wm, wn]);
  const group = w.op('b32', 'shr.u32', g.lane, 2);
  const t = w.op('b32', 'and.b32', g.lane, 3);
  const at = linearSum(
    w,
    [
      [g.shared, 1],
      [group, pitch],
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
  outputs(g, pitch);
  if (split > 1) {
    // A block's shared memory must outlive its readers.
    w.line('barrier.cluster.arrive.release');
    w.line('barrier.cluster.wait.acquire');
  }
}

/** This block's rows of the tile, 8 columns a thread and turn. */
function outputs(g: GemmContext, pitch: number): void {
  const { w } = g;
  const { m, n, plan } = g.shape;
  const { bm, bn, split } = g.tile;
  const perRow = bn / 8;
  const rows = bm / split;
  const rowStep = g.threads / perRow;
  const turns = Math.max(1, rows / rowStep);
  const column = w.op('b32', 'mul.lo.u32', w.op('b32', 'and.b32', g.tid, perRow - 1), 8);
  let row = w.op('b32', 'shr.u32', g.tid, Math.log2(perRow));
  const done = w.newLabel();
  if (rowStep > rows) w.line(`@${w.op('pred', 'setp.ge.u32', row, rows)} bra ${done}`);
  if (split > 1)
    row = linearSum(
      w,
      [
        [row, 1],
        [g.rank, rows],
      ],
      0,
    );
  const n0 = linearSum(w, [[column, 1], ...(g.columnTile ? [[g.columnTile, bn] as const] : [])], 0);
  if (n % bn !== 0) w.line(`@${w.op('pred', 'setp.ge.u32', n0, n)} bra ${done}`);
  const m0 = linearSum(
    w,
    [
      [row, 1],
      [g.rowTile, bm],
    ],
    0,
  );
  const source = linearSum(
    w,
    [
      [g.shared, 1],
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
    const sums = sumOf(g, sources, i * rowStep * pitch);
    const digits = outputDigits(g, index);
    const axis = plan.form.axes.find((x) => x.role === 'n' && x.extent > 1);
    if (n % 8 === 0) epilogue(g, digits, axis, n0, sums);
    else singleColumns(g, digits, axis, n0, sums);
  }
  w.label(done);
}

/** 8 sums, added up over the blocks of the cluster. */
function sumOf(g: GemmContext, sources: readonly string[], offset: number): string[] {
  const { w } = g;
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
function outputDigits(g: GemmContext, index: string): Map<string, string> {
  const { w } = g;
  const { plan } = g.shape;
  const own = plan.form.axes.filter((x) => x.role === 'm' && x.extent > 1);
  const merged = mergeAxes(own, epilogueIndices(plan.form.epilogue));
  const regs = digitsOf(
    w,
    index,
    merged.map((x) => x.extent),
  );
  return new Map([...merged.map((x, i) => [x.name, regs[i]] as const), ...g.batch]);
}

function epilogue(
  g: GemmContext,
  digits: Map<string, string>,
  axis: Axis | undefined,
  n0: string,
  sums: readonly string[],
): void {
  const place = {
    digits: axis ? new Map([...digits, [axis.name, n0]]) : digits,
    column: axis,
    width: 8,
    pointers: g.pointers,
    aligned: g.aligned,
  };
  emitEpilogue(g.w, g.kernel, g.shape.plan.form.epilogue, place, sums);
}

/** Columns one by one, where their number is no multiple of 8. */
function singleColumns(
  g: GemmContext,
  digits: Map<string, string>,
  axis: Axis | undefined,
  n0: string,
  sums: readonly string[],
): void {
  const { w } = g;
  const skip = w.newLabel();
  for (const [j, sum] of sums.entries()) {
    const at = linearSum(w, [[n0, 1]], j);
    w.line(`@${w.op('pred', 'setp.ge.u32', at, g.shape.n)} bra ${skip}`);
    const place = {
      digits: axis ? new Map([...digits, [axis.name, at]]) : digits,
      column: axis,
      width: 1,
      pointers: g.pointers,
      aligned: g.aligned,
    };
    emitEpilogue(w, g.kernel, g.shape.plan.form.epilogue, place, [sum]);
  }
  w.label(skip);
}
