/**
 * Every operator, one line a file. Order is of no consequence; two operators with one key are a Bug.
 */
import { Bug } from '../core/errors.ts';
import { ARITHMETIC_OPS } from './arithmetic.ts';
import { CAST_OPS } from './cast.ts';
import { CONCAT_OPS } from './concat.ts';
import type { Op } from './op.ts';
import { RESHAPE_OPS } from './reshape.ts';
import { UNARY_OPS } from './unary.ts';

const FILES: readonly (readonly Op[])[] = [ARITHMETIC_OPS, CAST_OPS, CONCAT_OPS, RESHAPE_OPS, UNARY_OPS];

function table(files: readonly (readonly Op[])[]): ReadonlyMap<string, Op> {
  const ops = new Map<string, Op>();
  for (const op of files.flat()) {
    if (ops.has(op.key)) throw new Bug('op-twice', `operator ${op.key} is defined twice`);
    ops.set(op.key, op);
  }
  return ops;
}

export const OPS: ReadonlyMap<string, Op> = table(FILES);
