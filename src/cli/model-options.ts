/**
 * The options that every command taking a MODEL shares: how to build it, where and with how many threads to run it.
 */
import type { Command } from 'commander';
import { Option } from 'commander';
import type { BuildOptions } from '../build-options.ts';
import type { Precision, TargetName } from '../engine/engine.ts';
import type { ShapeProfile } from '../graph/profiles.ts';
import { readInputFiles } from './input-tensors.ts';
import {
  type Effort,
  PRECISION_NAMES,
  parseBytes,
  parseEffort,
  parseProfileShapes,
  parseSample,
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
  readonly sample?: readonly ReadonlyMap<string, string>[];
  readonly shapes?: Shapes;
  readonly minShapes?: readonly Shapes[];
  readonly optShapes?: readonly Shapes[];
  readonly maxShapes?: readonly Shapes[];
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
    .option(
      '--sample <list>',
      'typical inputs, NAME=FILE.npy[,…], that int8 is calibrated and fp16 checked on; repeat for more samples',
      parseSample,
    )
    .option('--shapes <list>', 'sizes of inputs, NAME:1x3x224x224[,…]', parseShapes)
    .option(
      '--min-shapes <list>',
      'smallest sizes of a shape profile, for an engine that takes many; repeat all three for more profiles',
      parseProfileShapes,
    )
    .option('--opt-shapes <list>', 'usual sizes, which tactics are chosen for (the largest)', parseProfileShapes)
    .option('--max-shapes <list>', 'largest sizes (the usual)', parseProfileShapes)
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
 * With profiles the tensors' shapes are left to the run.
 */
export function buildOptionsOf(flags: ModelFlags, inputShapes: Shapes = {}): BuildOptions {
  const profiles = profilesOf(flags);
  return {
    target: flags.target ?? 'auto',
    ...(flags.gpuArch !== undefined && { gpuArch: flags.gpuArch }),
    shapes: { ...(profiles.length === 0 && inputShapes), ...flags.shapes },
    ...(profiles.length > 0 && { profiles }),
    ...(flags.precision && { precision: flags.precision }),
    ...(flags.sample && { samples: flags.sample.map((files) => Object.fromEntries(readInputFiles(files))) }),
    ...(flags.workspace !== undefined && { workspaceBytes: flags.workspace }),
    ...(flags.effort !== undefined && { effort: flags.effort }),
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.verify && { verify: true }),
  };
}

/** The profiles of `--min-shapes`, `--opt-shapes` and `--max-shapes`: what is not said of an input is as the next larger or smaller. */
function profilesOf({ minShapes = [], optShapes = [], maxShapes = [] }: ModelFlags): ShapeProfile[] {
  return Array.from({ length: Math.max(minShapes.length, optShapes.length, maxShapes.length) }, (_, i) => {
    const [min, opt, max] = [minShapes, optShapes, maxShapes].map((list) => list[i] ?? {});
    const names = new Set([min, opt, max].flatMap(Object.keys));
    return Object.fromEntries(
      [...names].map((name) => {
        const usual = opt[name] ?? max[name] ?? min[name];
        return [name, { min: min[name] ?? usual, opt: usual, max: max[name] ?? usual }];
      }),
    );
  });
}
