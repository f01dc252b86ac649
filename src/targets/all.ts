/**
 * Every target, one line each, the fastest first: the order in which 'auto' tries them.
 */
import { ModelError } from '../core/errors.ts';
import type { DeviceInfo } from '../engine/device.ts';
import type { TargetName } from '../engine/engine.ts';
import { referenceTarget } from './reference/target.ts';
import type { Target } from './target.ts';
import { wasmTarget } from './wasm/target.ts';
import { x64Target } from './x64/target.ts';

export const TARGETS: readonly Target[] = [x64Target, wasmTarget, referenceTarget];

/** What this machine offers, target by target. */
export const probeTargets = (): Promise<DeviceInfo[]> => Promise.all(TARGETS.map((t) => t.device.probe()));

/** The target of that name, or for 'auto' the first that this machine can run. Throws `target-unavailable` with the reason. */
export async function chooseTarget(name: TargetName | 'auto'): Promise<Target> {
  for (const target of TARGETS) {
    if (name !== 'auto' && target.name !== name) continue;
    const info = await target.device.probe();
    if (info.available) return target;
    if (name === target.name) {
      throw new ModelError(
        'target-unavailable',
        `target ${name} is not available here: ${info.reason ?? 'no reason known'}`,
        {
          hint: 'hotrod devices lists what this machine offers',
        },
      );
    }
  }
  throw new ModelError(
    'target-unavailable',
    `there is no target ${name}; known: auto, ${TARGETS.map((t) => t.name).join(', ')}`,
  );
}

/** The fastest target that runs on the processor: for work beside a build for another one. */
export async function chooseProcessor(): Promise<Target> {
  return (await x64Target.device.probe()).available ? x64Target : wasmTarget;
}
