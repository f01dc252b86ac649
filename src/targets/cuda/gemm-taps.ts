/**
 * Copies of a where each step of k lies within one tap of a window: convolutions whose channels fill steps, and products.
 *
 * The taps that a row of the output may see (those not in the padding) are bits of a mask, made once a row. A step then costs a
 * shift and a mask a row, whatever the window; where k is, is the same for all threads: bytes from the row's first element, the
 * steps left in this tap, and the tap's digits, moved on together.
 */
import type { GemmContext } from './gemm-context.ts';
import type { CopyStep } from './gemm-copies.ts';
import { coefOf, type Guard } from './gemm-plan.ts';
import { CHUNK_BYTES, STEP_BYTES } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** Bits of a mask: the first is the size of a chunk, so that what is shifted down to it says how many bytes to copy. */
const FIRST_BIT = Math.log2(CHUNK_BYTES);
const MOST_TAPS = 32 - FIRST_BIT;

/** A row that a thread copies. */
export interface TapRow {
  /** Its first element, without k. */
  readonly offset: string;
  /** Its part of each guard; rows beyond the end fail the first. */
  readonly guards: readonly string[];
  /** A predicate: the row exists. Undefined where all do, or guards tell. */
  readonly inside: string | undefined;
}

/** Whether steps do not cross taps, and masks have room for all of them. */
export function hasTaps({ shape }: GemmContext): boolean {
  const { plan, elementBytes } = shape;
  const inner = plan.k.at(-1);
  if (!inner || (inner.extent * elementBytes) % STEP_BYTES !== 0) return false;
  const taps = plan.k.slice(0, -1).reduce((n, x) => n * x.extent, 1);
  return plan.a.guards.length === 0 || taps <= MOST_TAPS;
}

/** `copy` issues a row's copy: into the stage at `to`, from an address, so many bytes (undefined: all). */
export function copiesByTaps(
  g: GemmContext,
  rows: readonly TapRow[],
  chunk: string,
  at: string,
  copy: (row: number, to: string, from: string, bytes: string | undefined) => void,
): CopyStep {
  const { w } = g;
  const { plan, elementBytes } = g.shape;
  const pointer = g.pointers.get(plan.a.buffer) as string;
  const bases = rows.map(({ offset }) => {
    const first = linearSum(
      w,
      [
        [offset, 1],
        [chunk, CHUNK_BYTES / elementBytes],
      ],
      0,
    );
    return w.op('b64', 'mad.wide.s32', first, elementBytes, pointer);
  });
  const guarded = plan.a.guards.length > 0;
  const masks = guarded ? rows.map((row) => maskOf(g, row)) : [];
  const sizes = rows.map(({ inside }) =>
    inside === undefined ? undefined : w.op('b32', 'selp.b32', CHUNK_BYTES, 0, inside),
  );
  const place = tapPlace(g);
  return (stage) => {
    const to = w.op('b32', 'add.s32', at, stage);
    for (const [i, base] of bases.entries()) {
      const bytes = guarded
        ? w.op('b32', 'and.b32', w.op('b32', 'shr.u32', masks[i], place.tap), CHUNK_BYTES)
        : sizes[i];
      copy(i, to, w.op('b64', 'add.s64', base, place.offset), bytes);
    }
    place.advance();
  };
}

/** The taps at which no guard of the row fails. */
function maskOf(g: GemmContext, row: TapRow): string {
  const { w } = g;
  const masks = g.shape.plan.a.guards.map((guard, j) => {
    const mask = w.reg('b32');
    w.line(`mov.b32 ${mask}, 0`);
    for (const [part, taps] of tapsByPart(g, guard)) {
      const position = w.op('b32', 'add.s32', row.guards[j], part);
      const inside = w.op('pred', 'setp.lt.u32', position, g.ends.get(guard) ?? guard.extent);
      w.line(`@${inside} or.b32 ${mask}, ${mask}, ${taps}`);
    }
    return mask;
  });
  return masks.reduce((a, b) => w.op('b32', 'and.b32', a, b));
}

/** What taps add to the guard's position, and the bits of those that add as much. */
function tapsByPart({ shape }: GemmContext, guard: Guard): ReadonlyMap<number, number> {
  const outer = shape.plan.k.slice(0, -1);
  const count = outer.reduce((n, x) => n * x.extent, 1);
  const found = new Map<number, number>();
  for (let tap = 0; tap < count; tap++) {
    let rest = tap;
    let part = 0;
    for (const axis of outer.toReversed()) {
      part += (rest % axis.extent) * coefOf(guard, axis.name);
      rest = Math.floor(rest / axis.extent);
    }
    found.set(part, ((found.get(part) ?? 0) | (1 << (tap + FIRST_BIT))) >>> 0);
  }
  return found;
}

/** Where the next step is: bytes from a row's first element, the number of the tap. */
function tapPlace(g: GemmContext): { readonly offset: string; readonly tap: string; readonly advance: () => void } {
  const { w } = g;
  const { plan, elementBytes } = g.shape;
  const inner = plan.k[plan.k.length - 1];
  const outer = plan.k.slice(0, -1);
  const stepsOfTap = (inner.extent * elementBytes) / STEP_BYTES;
  const bytesOf = (i: number): number => coefOf(plan.a, outer[i].name) * elementBytes;
  const starts = g.first === 0;
  const own = (from: string | number): string => {
    const reg = w.reg('b32');
    w.line(`mov.b32 ${reg}, ${from}`);
    return reg;
  };
  const firstTap = starts ? '0' : w.op('b32', 'div.u32', g.first, stepsOfTap);
  const inTap = starts ? '0' : w.op('b32', 'mad.lo.s32', firstTap, -stepsOfTap, g.first);
  const extents = outer.map((x) => x.extent);
  const firstDigits = starts ? outer.map(() => '0') : digitsOf(w, firstTap, extents);
  const offset = w.reg('b64');
  const terms = [[inTap, STEP_BYTES] as const, ...firstDigits.map((d, i) => [d, bytesOf(i)] as const)];
  if (starts) w.line(`mov.b64 ${offset}, 0`);
  else w.line(`cvt.s64.s32 ${offset}, ${linearSum(w, terms, 0)}`);
  const tap = own(firstTap);
  const left = own(starts ? stepsOfTap : w.op('b32', 'sub.s32', stepsOfTap, inTap));
  const digits = firstDigits.map((d, i) => (i === 0 ? d : own(d)));
  const advance = (): void => {
    w.line(`add.s64 ${offset}, ${offset}, ${STEP_BYTES}`);
    if (outer.length === 0) return;
    w.line(`sub.s32 ${left}, ${left}, 1`);
    let carry = w.op('pred', 'setp.eq.s32', left, 0);
    w.line(`@${carry} mov.b32 ${left}, ${stepsOfTap}`);
    w.line(`@${carry} add.s32 ${tap}, ${tap}, 1`);
    let back = stepsOfTap * STEP_BYTES;
    for (let i = outer.length - 1; i >= 0; i--) {
      w.line(`@${carry} add.s64 ${offset}, ${offset}, ${bytesOf(i) - back}`);
      if (i === 0) break;
      w.line(`@${carry} add.s32 ${digits[i]}, ${digits[i]}, 1`);
      carry = w.op('pred', 'setp.eq.and.s32', digits[i], extents[i], carry);
      w.line(`@${carry} mov.b32 ${digits[i]}, 0`);
      back = extents[i] * bytesOf(i);
    }
  };
  return { offset, tap, advance };
}
