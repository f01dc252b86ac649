/**
 * Keys and values on their way from global into shared memory: cp.async, 16 bytes a thread and row; zeros behind the last key and behind the
 * last element of a row whose fragments reach over it.
 *
 *     stage: keys, one row each, then values; a row is an odd number of 16 bytes long, so that ldmatrix meets no bank twice
 */
import { type AttendContext, offsetOf } from './attend-context.ts';
import { type AttendOperand, CHUNK } from './attend-plan.ts';
import { coefOf } from './gemm-plan.ts';
import type { Reg } from './ptx.ts';

const BYTES = 2;
const CHUNK_BYTES = CHUNK * BYTES;

export interface AttendCopies {
  /** Asks for the keys, or the values, of the next stage, `to` bytes behind the start of shared memory. */
  keys(to: Reg | number): void;
  values(to: Reg | number): void;
  /** To the stage after. */
  advance(): void;
}

export function prepareCopies(g: AttendContext): AttendCopies {
  const { k, layout, tile, shape } = g;
  const perTurn = layout.stageKeys * tile.split;
  const first = k.op('mul.lo.u32', g.rank, layout.stageKeys);
  const exact = layout.turns * perTurn === shape.keys;
  const [ofKeys, ofValues] = [
    copyRows(g, { operand: shape.k, elements: shape.inner, pitch: layout.keyPitch, at: 0, first, perTurn, exact }),
    copyRows(g, {
      operand: shape.v,
      elements: shape.value.extent,
      pitch: layout.valuePitch,
      at: layout.valuesAt,
      first,
      perTurn,
      exact,
    }),
  ];
  return {
    keys: ofKeys.copy,
    values: ofValues.copy,
    advance: () => {
      ofKeys.advance();
      ofValues.advance();
    },
  };
}

interface Rows {
  readonly operand: AttendOperand;
  /** Of a row. */
  readonly elements: number;
  readonly pitch: number;
  /** Bytes from the start of a stage. */
  readonly at: number;
  readonly first: Reg;
  /** Keys from a turn to the next. */
  readonly perTurn: number;
  readonly exact: boolean;
}

function copyRows(g: AttendContext, { operand, elements, pitch, at, first, perTurn, exact }: Rows) {
  const { k, threads } = g;
  const { stageKeys } = g.layout;
  const { key, keys } = g.shape;
  // Fragments are 16 elements wide; what lies behind the row's end is zero.
  const chunks = Math.ceil(elements / 16) * 2;
  const wide = 2 ** Math.ceil(Math.log2(chunks));
  const chunk = k.op('and.b32', g.tid, wide - 1);
  const row = k.op('shr.u32', g.tid, Math.log2(wide));
  const step = threads / wide;
  const stride = coefOf(operand, key.name) * BYTES;
  const keyAt = k.reg('b32');
  k.move(keyAt, k.op('add.s32', first, row));
  const base = k.op('mad.lo.s32', chunk, CHUNK, offsetOf(k, operand, g.batch));
  const from = k.reg('b64');
  const start = k.op('mad.wide.s32', base, BYTES, g.pointers.get(operand.buffer) as Reg);
  k.to(from, 'mad.wide.u32', keyAt, stride, start);
  const place = k.op('add.s32', g.shared, k.op('mad.lo.u32', row, pitch, k.op('mul.lo.u32', chunk, CHUNK_BYTES)));
  const active = wide === chunks ? undefined : k.op('setp.lt.u32', chunk, chunks);
  const whole = chunks * CHUNK === elements ? undefined : k.op('setp.lt.u32', chunk, elements / CHUNK);
  const copy = (to: Reg | number): void => {
    const target = typeof to === 'number' ? place : k.op('add.s32', place, to);
    const offset = typeof to === 'number' ? to + at : at;
    for (let i = 0; i * step < stageKeys; i++) {
      const certain = (i + 1) * step <= stageKeys;
      const inStage = certain ? undefined : k.op('setp.lt.u32', row, stageKeys - i * step);
      const guard = active && inStage ? k.op('and.pred', active, inStage) : (active ?? inStage);
      const before = exact ? undefined : k.op('setp.lt.s32', keyAt, keys - i * step);
      const inside = before && whole ? k.op('and.pred', before, whole) : (before ?? whole);
      const [shared, global] = [k.at(target, offset + i * step * pitch), k.at(from, i * step * stride)];
      const size = inside && k.op('selp.b32', CHUNK_BYTES, 0, inside);
      const ask = (): void => {
        if (size) k.do('cp.async.cg.shared.global#zfill', shared, global, CHUNK_BYTES, size);
        else k.do('cp.async.cg.shared.global', shared, global, CHUNK_BYTES);
      };
      if (guard) k.when(guard, ask);
      else ask();
    }
  };
  const advance = (): void => {
    k.to(keyAt, 'add.s32', keyAt, perTurn);
    k.to(from, 'add.s64', from, perTurn * stride);
  };
  return { copy, advance };
}
