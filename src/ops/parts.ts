/**
 * The operators that expansions are written with: primitives, and what expands into them. Composite operators are not among them, so
 * that this table can be made before theirs.
 */
import type { OpTable } from '../graph/semantics.ts';
import { ACTIVATION_OPS } from './activation.ts';
import { ARG_OPS } from './arg.ts';
import { ARITHMETIC_OPS } from './arithmetic.ts';
import { CAST_OPS } from './cast.ts';
import { CONCAT_OPS } from './concat.ts';
import { CONV_OPS } from './conv.ts';
import { DIAGONAL_OPS } from './diagonal.ts';
import { GATHER_OPS } from './gather.ts';
import { GEMM_OPS } from './gemm.ts';
import { GENERATE_OPS } from './generate.ts';
import { LOGIC_OPS } from './logic.ts';
import { MATMUL_OPS } from './matmul.ts';
import { NORMALIZATION_OPS } from './normalization.ts';
import type { Op } from './op.ts';
import { PAD_OPS } from './pad.ts';
import { POOL_OPS } from './pool.ts';
import { REDUCE_OPS } from './reduce.ts';
import { REPEAT_OPS } from './repeat.ts';
import { RESHAPE_OPS } from './reshape.ts';
import { SELECT_OPS } from './select.ts';
import { SIZE_OPS } from './sizes.ts';
import { SLICE_OPS } from './slice.ts';
import { SOFTMAX_OPS } from './softmax.ts';
import { TRANSPOSE_OPS } from './transpose.ts';
import { UNARY_OPS } from './unary.ts';

const FILES: readonly (readonly Op[])[] = [
  ACTIVATION_OPS,
  ARG_OPS,
  ARITHMETIC_OPS,
  CAST_OPS,
  CONCAT_OPS,
  CONV_OPS,
  DIAGONAL_OPS,
  GATHER_OPS,
  GEMM_OPS,
  GENERATE_OPS,
  LOGIC_OPS,
  MATMUL_OPS,
  NORMALIZATION_OPS,
  PAD_OPS,
  POOL_OPS,
  REDUCE_OPS,
  REPEAT_OPS,
  RESHAPE_OPS,
  SELECT_OPS,
  SIZE_OPS,
  SLICE_OPS,
  SOFTMAX_OPS,
  TRANSPOSE_OPS,
  UNARY_OPS,
];

export const PARTS: OpTable = new Map(FILES.flat().map((op) => [op.key, op]));
