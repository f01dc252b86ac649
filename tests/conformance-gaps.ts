/**
 * Which ONNX backend tests a target does not pass, and why. A row that no longer holds fails the suite.
 */
import type { ConformanceGap } from './conformance-suite.ts';

export const REFERENCE_GAPS: readonly ConformanceGap[] = [];

export const WASM_GAPS: readonly ConformanceGap[] = [...REFERENCE_GAPS];
