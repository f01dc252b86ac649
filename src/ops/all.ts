/**
 * Every operator, one line a file. Order is of no consequence; two operators with one key are a Bug.
 */
import { Bug } from '../core/errors.ts';
import { ACTIVATION_OPS } from './activation.ts';
import { ARG_OPS } from './arg.ts';
import { ARITHMETIC_OPS } from './arithmetic.ts';
import { ATTENTION_OPS } from './attention.ts';
import { BATCH_NORMALIZATION_OPS } from './batch-normalization.ts';
import { BLOCK_OPS } from './blocks.ts';
import { CAST_OPS } from './cast.ts';
import { CAST_LIKE } from './cast-like.ts';
import { CENTER_CROP_PAD_OPS } from './center-crop-pad.ts';
import { CHOOSE_OPS } from './choose.ts';
import { COL2IM_OPS } from './col2im.ts';
import { CONCAT_OPS } from './concat.ts';
import { CONV_OPS } from './conv.ts';
import { CONV_TRANSPOSE_OPS } from './conv-transpose.ts';
import { CUMULATIVE_OPS } from './cumulative.ts';
import { DEFORM_CONV_OPS } from './deform-conv.ts';
import { DETERMINANT_OPS } from './determinant.ts';
import { DIAGONAL_OPS } from './diagonal.ts';
import { DROPOUT_OPS } from './dropout.ts';
import { EINSUM_OPS } from './einsum.ts';
import { FOURIER_OPS } from './fourier.ts';
import { GATED_OPS } from './gated.ts';
import { GATHER_OPS } from './gather.ts';
import { GEMM_OPS } from './gemm.ts';
import { GENERATE_OPS } from './generate.ts';
import { GRID_SAMPLE_OPS } from './grid-sample.ts';
import { INTEGER_PRODUCT_OPS } from './integer-products.ts';
import { LINEAR_ATTENTION_OPS } from './linear-attention.ts';
import { LOGIC_OPS } from './logic.ts';
import { LOSS_OPS } from './losses.ts';
import { LRN_OPS } from './lrn.ts';
import { MATMUL_OPS } from './matmul.ts';
import { MAX_UNPOOL_OPS } from './max-unpool.ts';
import { MICROSOFT_ACTIVATION_OPS } from './microsoft-activation.ts';
import { MICROSOFT_ATTENTION_OPS } from './microsoft-attention.ts';
import { MICROSOFT_NORMALIZATION_OPS } from './microsoft-normalization.ts';
import { MICROSOFT_PRODUCT_OPS } from './microsoft-products.ts';
import { MICROSOFT_QUANTIZED_OPS } from './microsoft-quantized.ts';
import { NON_MAX_SUPPRESSION_OPS } from './non-max-suppression.ts';
import { NORMALIZATION_OPS } from './normalization.ts';
import type { Op } from './op.ts';
import { PACK_CHANNELS_OPS } from './pack-channels.ts';
import { PAD_OPS } from './pad.ts';
import { POOL_OPS } from './pool.ts';
import { QUANTIZE_LINEAR_OPS } from './quantize-linear.ts';
import { RANDOM_OPS } from './random.ts';
import { RECURRENT_OPS } from './recurrent.ts';
import { REDUCE_OPS } from './reduce.ts';
import { RENAMED_OPS } from './renamed.ts';
import { REPEAT_OPS } from './repeat.ts';
import { RESHAPE_OPS } from './reshape.ts';
import { RESIZE_OPS } from './resize.ts';
import { ROI_OPS } from './roi.ts';
import { ROTARY_EMBEDDING_OPS } from './rotary-embedding.ts';
import { SCATTER_OPS } from './scatter.ts';
import { SELECT_OPS } from './select.ts';
import { SELECT_BY_DATA_OPS } from './select-by-data.ts';
import { SEQUENCE_ORDER_OPS } from './sequence-order.ts';
import { WINDOW_OPS } from './signal-windows.ts';
import { SIZE_OPS } from './sizes.ts';
import { SLICE_OPS } from './slice.ts';
import { SOFTMAX_OPS } from './softmax.ts';
import { TF_IDF_VECTORIZER_OPS } from './tf-idf-vectorizer.ts';
import { TOP_K_OPS } from './top-k.ts';
import { TRANSPOSE_OPS } from './transpose.ts';
import { UNARY_OPS } from './unary.ts';
import { UNIQUE_OPS } from './unique.ts';
import { UNIT_NORMALIZATION_OPS } from './unit-normalization.ts';

const FILES: readonly (readonly Op[])[] = [
  UNIT_NORMALIZATION_OPS,
  LRN_OPS,
  CUMULATIVE_OPS,
  EINSUM_OPS,
  CONV_TRANSPOSE_OPS,
  DETERMINANT_OPS,
  FOURIER_OPS,
  LOSS_OPS,
  WINDOW_OPS,
  RANDOM_OPS,
  RECURRENT_OPS,
  REDUCE_OPS,
  NORMALIZATION_OPS,
  ARG_OPS,
  ACTIVATION_OPS,
  ARITHMETIC_OPS,
  BATCH_NORMALIZATION_OPS,
  BLOCK_OPS,
  CAST_OPS,
  [CAST_LIKE],
  CONCAT_OPS,
  CONV_OPS,
  DIAGONAL_OPS,
  DROPOUT_OPS,
  GATHER_OPS,
  GATED_OPS,
  LINEAR_ATTENTION_OPS,
  GEMM_OPS,
  GENERATE_OPS,
  INTEGER_PRODUCT_OPS,
  LOGIC_OPS,
  MATMUL_OPS,
  MICROSOFT_ACTIVATION_OPS,
  ATTENTION_OPS,
  MICROSOFT_ATTENTION_OPS,
  ROTARY_EMBEDDING_OPS,
  MICROSOFT_NORMALIZATION_OPS,
  MICROSOFT_PRODUCT_OPS,
  MICROSOFT_QUANTIZED_OPS,
  PAD_OPS,
  POOL_OPS,
  QUANTIZE_LINEAR_OPS,
  REPEAT_OPS,
  RENAMED_OPS,
  RESIZE_OPS,
  RESHAPE_OPS,
  SCATTER_OPS,
  TOP_K_OPS,
  SELECT_BY_DATA_OPS,
  SEQUENCE_ORDER_OPS,
  GRID_SAMPLE_OPS,
  ROI_OPS,
  MAX_UNPOOL_OPS,
  NON_MAX_SUPPRESSION_OPS,
  TF_IDF_VECTORIZER_OPS,
  CENTER_CROP_PAD_OPS,
  CHOOSE_OPS,
  PACK_CHANNELS_OPS,
  COL2IM_OPS,
  DEFORM_CONV_OPS,
  SELECT_OPS,
  SIZE_OPS,
  SLICE_OPS,
  SOFTMAX_OPS,
  TRANSPOSE_OPS,
  UNARY_OPS,
  UNIQUE_OPS,
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
