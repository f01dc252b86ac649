/**
 * Every target, one line each, the fastest first: the order in which 'auto' tries them.
 */
import { ModelError } from '../core/errors.ts';
import type { DeviceInfo } from '../engine/device.ts';
import type { TargetName } from '../engine/engine.ts';
import { cudaTarget } from './cuda/target.ts';
import { referenceTarget } from './reference/target.ts';
import type { Target } from './target.ts';
import { wasmTarget } from './wasm/target.ts';
import { x64Target } from './x64/target.ts';

export const TARGETS: readonly Target[] = [cudaTarget, x64Target, wasmTarget, referenceTarget];

/** What this machine offers, target by target. */
export const probeTargets = (): Promise<DeviceInfo[]> => Promise.all(TARGETS.map((t) => t.device.probe()));

/**
 * The target of that name, or for 'auto' the first that this machine can run; with an architecture, as it is on a machine of that one,
 * whatever is here. Throws `target-unavailable` with the reason, `option-invalid` where the target has no such architecture.
 */
export async function chooseTarget(name: TargetName | 'auto', architecture?: string): Promise<Target> {
  if (architecture !== undefined) return targetFor(name, architecture);
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

function targetFor(name: TargetName | 'auto', architecture: string): Target {
  const target = TARGETS.find((t) => t.name === name);
  if (target?.forArchitecture) return target.forArchitecture(architecture);
  const able = TARGETS.filter((t) => t.forArchitecture).map((t) => t.name);
  throw new ModelError('option-invalid', `target ${name} takes no architecture, got ${architecture}`, {
    hint: `name the target too: ${able.join(' or ')}`,
  });
}

/** The fastest target that runs on the processor: for work beside a build for another one. */
export async function chooseProcessor(): Promise<Target> {
  return (await x64Target.device.probe()).available ? x64Target : wasmTarget;
}
