/**
 * The template `attend` of target cuda: attention with an online softmax on tensor cores. attend-plan.ts says which attends and how their
 * work is cut, attend-emit.ts writes the kernel.
 */
import { Bug } from '../../core/errors.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import { predictAttendNs } from './attend-cost.ts';
import { emitAttend } from './attend-emit.ts';
import { type AttendShape, type AttendTile, attendShape, attendTiles } from './attend-plan.ts';
import { CLUSTERS, LEAST_TENSOR_CORES, sharedBytesOf } from './chip-features.ts';
import type { CudaTemplate } from './template.ts';

export const attend: CudaTemplate = {
  name: 'attend',
  form: 'attend',
  candidates: (kernel, facts, features) => {
    const sharedBytesPerBlock = sharedBytesOf(features);
    const shape = features.includes(LEAST_TENSOR_CORES) ? attendShape(kernel, facts) : undefined;
    if (!shape || sharedBytesPerBlock === undefined) return [];
    return attendTiles(shape, { sharedBytesPerBlock, clusters: features.includes(CLUSTERS) }).map((row) => ({
      ...row,
    }));
  },
  predictNs: (kernel, params) => predictAttendNs(kernel, shapeOf(kernel), tileOf(params)),
  tiles: (kernel, params) => {
    const { heads, queries } = shapeOf(kernel);
    const { rm, wm, split } = tileOf(params);
    return heads * Math.ceil(queries / (16 * rm * wm)) * split;
  },
  emit: (site) => emitAttend(site, shapeOf(site.kernel), tileOf(site.params)),
};

const tileOf = (params: Params): AttendTile => params as unknown as AttendTile;

function shapeOf(kernel: Kernel): AttendShape {
  const shape = attendShape(kernel);
  if (!shape) throw new Bug('cuda-attend', `kernel ${kernel.name} is no attention for tensor cores`);
  return shape;
}
