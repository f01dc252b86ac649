/**
 * Every operator, one line a file. Order is of no consequence; two operators with one key are a Bug.
 */
import { Bug } from '../core/errors.ts';
import { ARITHMETIC_OPS } from './arithmetic.ts';
import { BATCH_NORMALIZATION_OPS } from './batch-normalization.ts';
import { CAST_OPS } from './cast.ts';
import { CONCAT_OPS } from './concat.ts';
import { CONV_OPS } from './conv.ts';
import { GEMM_OPS } from './gemm.ts';
import { MATMUL_OPS } from './matmul.ts';
import type { Op } from './op.ts';
import { POOL_OPS } from './pool.ts';
import { RESHAPE_OPS } from './reshape.ts';
import { SOFTMAX_OPS } from './softmax.ts';
import { UNARY_OPS } from './unary.ts';

const FILES: readonly (readonly Op[])[] = [
  ARITHMETIC_OPS,
  BATCH_NORMALIZATION_OPS,
  CONV_OPS,
  GEMM_OPS,
  MATMUL_OPS,
  POOL_OPS,
  SOFTMAX_OPS,
  CAST_OPS,
  CONCAT_OPS,
  RESHAPE_OPS,
  UNARY_OPS,
];

function table(files: readonly (readonly Op[])[]): ReadonlyMap<string, Op> {
  const ops = new Map<string, Op>();
  for (const op of files.flat()) {
    if (ops.has(op.key)) throw new Bug('op-twice', `operator ${op.key} is defined twice`);
    ops.set(op.key, op);
  }
  return ops;
}

export const OPS: ReadonlyMap<string, Op> = table(FILES);
