/**
 * From a warp's sums to the outputs by way of a piece of shared memory of its own: 16 rows, some columns at a time, so that a lane gets 8
 * columns of a row and moves 16 bytes. What the epilogue loads is asked for two pieces ahead.
 *
 *     sums of 16 rows × columns → [row][column] of the piece → 8 columns a lane → epilogue          lanes of a warp only, no barrier
 */
import type { GemmContext } from './gemm-context.ts';
import { Epilogue, type SharedLoads } from './gemm-epilogue.ts';
import { outputDigits } from './gemm-outputs.ts';
import { linearSum } from './ptx-text.ts';

/** Pieces whose loads are under way at once. */
const AHEAD = 4;

/** 8 columns of a row that a lane finishes, in some piece. */
interface Turn {
  readonly epilogue: Epilogue;
  /** Row in the piece, from the lane's first. */
  readonly offset: number;
  /** False where the row or the columns lie behind the end; undefined where none do. */
  readonly inside: string | undefined;
}

/** Planned outputs of 16 rows: pieces in order, their turns. */
export interface Chunks {
  readonly columns: number;
  readonly pieces: readonly (readonly Turn[])[];
  readonly loadAhead: (piece: number) => void;
}

/** 16 rows of outputs that follow each other. */
export interface ChunkRows {
  /** The row of position 0: a register. */
  readonly first: string;
  /** The position of the warp's first row. */
  readonly position: string;
  /** Positions from here on are none; undefined where all are. At least 1. */
  readonly limit: string | number | undefined;
  /** A predicate: there are such rows at all (else `first` is some row that can be read). */
  readonly isThere?: string | undefined;
  /** The first column, a register, or '' for 0; and how many there are. */
  readonly column: string;
  readonly columns: number;
}

const pitchOf = (columns: number): number => columns * 4 + 32;
const CHUNK_COLUMNS = 32;
/** Columns that a warp finishes at a time, of so many, a multiple of 16. */
export const chunkColumns = (columns: number): number => (columns % CHUNK_COLUMNS === 0 ? CHUNK_COLUMNS : 16);
/** Shared memory of a warp. */
export const PIECE_BYTES = 16 * pitchOf(CHUNK_COLUMNS);

/** Plans the outputs, `columns` at a time, and asks for what the first pieces load. */
export function beginChunks(g: GemmContext, at: ChunkRows, columns: number): Chunks {
  const { w } = g;
  const { n, plan } = g.shape;
  const perRow = columns / 8;
  const step = 32 / perRow;
  const unit = w.op('b32', 'shl.b32', w.op('b32', 'and.b32', g.lane, perRow - 1), 3);
  const own = w.op('b32', 'add.s32', at.position, w.op('b32', 'shr.u32', g.lane, Math.log2(perRow)));
  const column = linearSum(w, [[unit, 1], ...(at.column ? [[at.column, 1] as const] : [])], 0);
  const axis = plan.form.axes.find((x) => x.role === 'n' && x.extent > 1);
  const last = typeof at.limit === 'string' ? w.op('b32', 'sub.s32', at.limit, 1) : Number(at.limit) - 1;
  const rows = Array.from({ length: 16 / step }, (_, i) => {
    const position = linearSum(w, [[own, 1]], i * step);
    const kept = at.limit === undefined ? position : w.op('b32', 'min.s32', position, last);
    const before = at.limit === undefined ? undefined : w.op('pred', 'setp.lt.s32', position, at.limit);
    const inside = before && at.isThere ? w.op('pred', 'and.pred', before, at.isThere) : (before ?? at.isThere);
    return { digits: outputDigits(g, w.op('b32', 'add.s32', kept, at.first)), offset: i * step, inside };
  });
  const loaded: SharedLoads = new Map();
  const hasTail = n % at.columns !== 0;
  const pieces = Array.from({ length: at.columns / columns }, (_, c): Turn[] => {
    const columnInside = hasTail ? w.op('pred', 'setp.lt.s32', column, n - c * columns) : undefined;
    return rows.map(({ digits, offset, inside }) => {
      const place = {
        digits: axis ? new Map([...digits, [axis.name, column]]) : digits,
        column: axis,
        shift: c * columns,
        width: 8,
        pointers: g.pointers,
        aligned: g.aligned,
      };
      const both = inside && columnInside ? w.op('pred', 'and.pred', inside, columnInside) : (inside ?? columnInside);
      return { epilogue: new Epilogue(w, g.kernel, plan.form.epilogue, place, loaded), offset, inside: both };
    });
  });
  // Rows behind the end load the last one's, not under a branch: what is loaded on one way only would stay in registers from tile to tile.
  const loadAhead = (piece: number): void => {
    if (!hasTail) for (const { epilogue } of pieces[piece] ?? []) epilogue.preload(() => true);
  };
  for (let c = 0; c < AHEAD; c++) loadAhead(c);
  return { columns, pieces, loadAhead };
}

/** Finishes planned rows. `part`: the warp's sums of these rows, [n tile of 8][4]; `piece`: the address of its shared memory. */
export function finishChunks(
  g: GemmContext,
  { columns, pieces, loadAhead }: Chunks,
  part: readonly (readonly string[])[],
  piece: string,
): void {
  const { w } = g;
  const pitch = pitchOf(columns);
  const perRow = columns / 8;
  const t = w.op('b32', 'and.b32', g.lane, 3);
  const to = linearSum(
    w,
    [
      [w.op('b32', 'shr.u32', g.lane, 2), pitch],
      [t, 8],
      [piece, 1],
    ],
    0,
  );
  const unit = w.op('b32', 'and.b32', g.lane, perRow - 1);
  const from = linearSum(
    w,
    [
      [w.op('b32', 'shr.u32', g.lane, Math.log2(perRow)), pitch],
      [unit, 32],
      [piece, 1],
    ],
    0,
  );
  for (const [c, turns] of pieces.entries()) {
    w.line('bar.warp.sync 0xffffffff');
    for (let j = 0; j < columns / 8; j++) {
      const [a, b, x, y] = part[(c * columns) / 8 + j];
      w.line(`st.shared.v2.f32 [${to}+${j * 32}], {${a}, ${b}}`);
      w.line(`st.shared.v2.f32 [${to}+${8 * pitch + j * 32}], {${x}, ${y}}`);
    }
    w.line('bar.warp.sync 0xffffffff');
    for (const { epilogue, offset, inside } of turns)
      where(g, inside, () => {
        const sums = [0, 16].flatMap((half) => {
          const v = w.regs('f32', 4);
          w.line(`ld.shared.v4.f32 {${v.join(', ')}}, [${from}+${offset * pitch + half}]`);
          return v;
        });
        epilogue.run(sums);
      });
    loadAhead(c + AHEAD);
  }
}

function where({ w }: GemmContext, inside: string | undefined, body: () => void): void {
  if (inside === undefined) {
    body();
    return;
  }
  const skip = w.newLabel();
  w.line(`@!${inside} bra ${skip}`);
  body();
  w.label(skip);
}
