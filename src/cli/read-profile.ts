/** Times of steps from a file: what `hotrod bench --profile --json` printed for the same engine. */
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { inspectEngine } from '../engine/inspect.ts';
import { readInputFile } from './files.ts';
import type { LayerTime } from './profile-layers.ts';

export interface StepTimes {
  readonly ms: readonly number[];
  /** How they were got, for people. */
  readonly how: string;
}

/** Throws ModelError `option-invalid` where the file is no profile, or one of another engine. */
export function readProfile(file: string, engine: Engine): StepTimes {
  const fail = (what: string, hint: string): never => {
    throw new ModelError('option-invalid', `--profile ${file}: ${what}`, { hint });
  };
  let report: { readonly layers?: readonly LayerTime[]; readonly target?: string } = {};
  try {
    report = JSON.parse(new TextDecoder().decode(readInputFile(file, 'profile')));
  } catch (error) {
    if (error instanceof ModelError) throw error;
    fail('it is not JSON', 'Write it with: hotrod bench MODEL --profile --json > FILE');
  }
  const { layers } = report;
  if (!Array.isArray(layers) || layers.some((layer) => typeof layer?.ms !== 'number')) {
    return fail('it has no times of layers', 'Write it with: hotrod bench MODEL --profile --json > FILE');
  }
  const steps = inspectEngine(engine).layers;
  const same = layers.length === steps.length && layers.every((layer, i) => layer.name === steps[i].name);
  if (!same) {
    fail(
      `it is of another engine: ${layers.length} layers, this one has ${steps.length}${layers.length === steps.length ? ' of other names' : ''}`,
      'Profile and view the same engine file, or build both times with the same options.',
    );
  }
  return { ms: layers.map((layer) => layer.ms), how: `read from ${file}, target ${report.target ?? engine.target}` };
}
