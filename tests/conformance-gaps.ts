/**
 * Which ONNX backend tests no target passes, and why. A row that no longer holds fails the suite.
 */
import type { ConformanceGap } from './conformance-suite.ts';

export const GAPS: readonly ConformanceGap[] = [
  {
    tests: /^cast(like)?_FLOAT_to_BFLOAT16(_expanded)?$/,
    how: 'differs',
    why: 'the files were made by cutting off bits; ONNX has since defined rounding to nearest, ties to even',
  },
  {
    tests: /^maxunpool_export_with_output_shape$/,
    how: 'differs',
    why: 'its indices count through the size that strides imply, not through output_shape; MaxPool gives the latter, as onnxruntime reads',
  },
];
