/**
 * The options that every command taking a MODEL shares: how to build it, where and with how many threads to run it.
 */
import type { Command } from 'commander';
import { Option } from 'commander';
import type { BuildOptions } from '../build-options.ts';
import { ModelError } from '../core/errors.ts';
import { printShape } from '../core/shape.ts';
import type { Precision, TargetName } from '../engine/engine.ts';
import {
  type Effort,
  PRECISION_NAMES,
  parseBytes,
  parseEffort,
  parseShapes,
  parseThreads,
  type Shapes,
  TARGET_NAMES,
} from './options.ts';

/** Values of the options as commander hands them over; each is absent where it was not given. */
export interface ModelFlags {
  readonly json?: boolean;
  readonly target?: TargetName | 'auto';
  readonly gpuArch?: string;
  readonly precision?: Precision;
  readonly shapes?: Shapes;
  readonly minShapes?: Shapes;
  readonly optShapes?: Shapes;
  readonly maxShapes?: Shapes;
  readonly workspace?: number;
  readonly effort?: Effort;
  readonly timingCache?: string;
  readonly threads?: number | 'auto';
  readonly trusted?: boolean;
  readonly verify?: boolean;
  readonly arch?: string;
}

export function addModelOptions(command: Command): Command {
  return command
    .addOption(new Option('--target <name>', 'where to run').choices(TARGET_NAMES).default('auto'))
    .option('--gpu-arch <name>', 'GPU architecture to build for, such as sm_90, where it is not the one here')
    .addOption(new Option('--precision <name>', 'what to compute in').choices(PRECISION_NAMES))
    .option('--shapes <list>', 'sizes of inputs, NAME:1x3x224x224[,…]', parseShapes)
    .option('--min-shapes <list>', 'smallest sizes; engines have one size, so all three must agree', parseShapes)
    .option('--opt-shapes <list>', 'usual sizes', parseShapes)
    .option('--max-shapes <list>', 'largest sizes', parseShapes)
    .option('--workspace <size>', 'most memory for intermediate values, such as 64MiB', parseBytes)
    .option(
      '--effort <0-5>',
      'time to spend on choosing tactics; 0 and 1 predict only, from 2 on candidates are measured',
      parseEffort,
    )
    .option('--timing-cache <file>', 'keep measured times of tactics (--effort 2 and up) in a file, and reuse them')
    .option('--threads <n>', 'threads, or auto for the number of cores', parseThreads)
    .option(
      '--arch <name>',
      'the architecture of a checkpoint, such as resnet50; recognised from its weights if not given',
    )
    .option('--trusted', 'the engine file is your own: compiled GPU code in it may be used')
    .option('--verify', 'check the intermediate representations between all stages')
    .option('--json', 'print one JSON object on stdout and nothing else there');
}

/**
 * The options of `build`. `inputShapes` are the shapes of tensors that are at hand; `--shapes` wins over them.
 * Throws ModelError `option-invalid` where a range of shapes is asked for.
 */
export function buildOptionsOf(flags: ModelFlags, inputShapes: Shapes = {}): BuildOptions {
  return {
    target: flags.target ?? 'auto',
    ...(flags.gpuArch !== undefined && { gpuArch: flags.gpuArch }),
    shapes: { ...inputShapes, ...rangeShapes(flags), ...flags.shapes },
    ...(flags.precision && { precision: flags.precision }),
    ...(flags.workspace !== undefined && { workspaceBytes: flags.workspace }),
    ...(flags.effort !== undefined && { effort: flags.effort }),
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.verify && { verify: true }),
  };
}

/** The one shape an input that `--min-shapes`, `--opt-shapes` and `--max-shapes` agree on. */
function rangeShapes({ minShapes = {}, optShapes = {}, maxShapes = {} }: ModelFlags): Shapes {
  const shapes: Record<string, readonly number[]> = {};
  for (const [name, shape] of [minShapes, optShapes, maxShapes].flatMap(Object.entries<readonly number[]>)) {
    const known = shapes[name];
    if (known !== undefined && known.join() !== shape.join()) {
      throw new ModelError(
        'option-invalid',
        `input "${name}" is asked for in a range of shapes (${printShape(known)} and ${printShape(shape)}), but an engine has one`,
        { hint: 'Build an engine for each shape with --shapes.' },
      );
    }
    shapes[name] = shape;
  }
  return shapes;
}
