/**
 * Target reference: runs the graph itself, node by node, by the operators' definitions. It has no templates: nothing is lowered.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { Target } from '../target.ts';
import { referenceDevice } from './device.ts';

export const referenceTarget: Target = {
  name: 'reference',
  device: referenceDevice,
  computes: new Set(Object.keys(DTYPES) as DType[]),
  precisions: new Set(['fp32']),
  features: () => [],
};
