/**
 * `hotrod classify`: pictures to classes. Preprocessing is a preset, or a preset with single steps replaced.
 */
import type { Command } from 'commander';
import { Option } from 'commander';
import { ModelError } from '../core/errors.ts';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { now } from '../host/clock.ts';
import { confidences, topK } from '../vision/answer.ts';
import { decodePicture } from '../vision/decode.ts';
import { parseLabels } from '../vision/labels.ts';
import { type Preprocess, preprocess } from '../vision/preprocess.ts';
import { PRESETS, type PresetName } from '../vision/presets.ts';
import type { ResizeFilter } from '../vision/resize.ts';
import { type EngineRunner, openEngineRunner } from './engine-runner.ts';
import { readInputFile } from './files.ts';
import { completeInputs } from './input-tensors.ts';
import { timedRun } from './measure.ts';
import { type ModelInput, openModel } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { inputTypes } from './model-types.ts';
import { parseAmount, parseCount, parseNumbers, parseSize, type SizeOption } from './options.ts';
import { prepareEngine } from './prepare-engine.ts';
import { formatMs, textTable } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface StepFlags {
  readonly resize?: SizeOption;
  readonly crop?: SizeOption;
  readonly filter?: 'bilinear' | 'bicubic' | 'lanczos';
  readonly antialias?: boolean;
  readonly order?: Preprocess['order'];
  readonly scale?: number;
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
  readonly layout?: Preprocess['layout'];
}

interface ClassifyFlags extends ModelFlags, StepFlags {
  readonly preset: PresetName;
  readonly labels?: string;
  readonly top: number;
  readonly threshold: number;
}

interface ClassifiedImage {
  readonly file: string;
  readonly classes: readonly { readonly index: number; readonly label: string; readonly confidence: number }[];
  readonly preprocessMs: number;
  readonly inferenceMs: number;
}

export function addClassifyCommand(program: Command): void {
  const presets = Object.entries(PRESETS).map(([name, { summary }]) => `  ${name.padEnd(11)} ${summary}`);
  const command = program
    .command('classify')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .argument('<image...>', 'JPEG, PNG or WebP files')
    .description('say what a picture shows')
    .addOption(
      new Option('--preset <name>', 'how the network was fed').choices(Object.keys(PRESETS)).default('imagenet'),
    )
    .option('--labels <file>', 'class names: a line each, or JSON')
    .option('--top <n>', 'how many classes', parseCount, 5)
    .option('--threshold <x>', 'least confidence of a class', parseAmount, 0)
    .option('--resize <size>', 'short side (224) or width and height (224x224)', parseSize)
    .option('--crop <size>', 'centre crop, 224 or WIDTHxHEIGHT', parseSize)
    .addOption(new Option('--filter <name>', 'of the resize').choices(['bilinear', 'bicubic', 'lanczos']))
    .option('--antialias', 'resize as Pillow does')
    .option('--no-antialias', 'resize as OpenCV does')
    .addOption(new Option('--order <name>', 'channels').choices(['rgb', 'bgr', 'grey']))
    .option('--scale <x>', 'factor on the values 0 to 255', parseAmount)
    .option('--mean <list>', 'subtracted after scaling, a number a channel', parseNumbers)
    .option('--std <list>', 'divided by, a number a channel', parseNumbers)
    .addOption(new Option('--layout <name>', 'of the input').choices(['nchw', 'nhwc']));
  addModelOptions(command)
    .addHelpText('after', `\nPresets:\n${presets.join('\n')}`)
    .addHelpText(
      'after',
      '\nExample: hotrod classify squeezenet.onnx hotdog.jpg --preset squeezenet --labels imagenet-classes.txt',
    )
    .action(classifyCommand);
}

async function classifyCommand(file: string, images: readonly string[], flags: ClassifyFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  const labels = flags.labels === undefined ? [] : readLabels(flags.labels);
  const input = await pictureInput(model, terminal);
  const steps = preprocessSteps(flags, input.dtype);
  const engines = new EnginesByShape(model, input.name, flags, terminal);
  const results: ClassifiedImage[] = [];
  try {
    for (const image of images) {
      const start = now();
      const tensor = preprocess(await decodePicture(readInputFile(image, 'picture'), { file: image }), steps);
      const preprocessMs = (now() - start) / 1e6;
      const runner = await engines.forTensor(tensor);
      runner.setInputs(completeInputs(runner.inputs, new Map([[input.name, tensor]]), 0));
      const inferenceMs = await timedRun(runner);
      const classes = rankClasses(runner.outputs(), labels, flags);
      results.push({ file: image, classes, preprocessMs, inferenceMs });
    }
  } finally {
    await engines.dispose();
  }
  terminal.result({ images: results }, () => results.map(imageText).join('\n\n'));
}

/** The one input that takes a picture, and its dtype. Throws ModelError `option-invalid` where the model has none or several. */
async function pictureInput(
  model: ModelInput,
  terminal: Terminal,
): Promise<{ readonly name: string; readonly dtype: Preprocess['dtype'] }> {
  const inputs = await inputTypes(model, terminal);
  const [input] = inputs;
  if (inputs.length !== 1 || input.shape.length !== 4) {
    throw new ModelError('option-invalid', `${model.file} does not take one picture`, {
      hint: `Its inputs are ${inputs.map(({ name, text }) => `"${name}" ${text}`).join(', ')}; classify needs one of rank 4.`,
    });
  }
  const { name, dtype, text } = input;
  if (dtype === 'f32' || dtype === 'f16' || dtype === 'u8') return { name, dtype };
  throw new ModelError('option-invalid', `input "${name}" of ${model.file} is ${text}; pictures become f32, f16 or u8`);
}

function readLabels(file: string): readonly string[] {
  return parseLabels(new TextDecoder().decode(readInputFile(file, 'labels')), file);
}

/** The preset with the steps that were given replaced. */
function preprocessSteps(flags: ClassifyFlags, dtype: Preprocess['dtype']): Preprocess {
  const preset: Preprocess = PRESETS[flags.preset].steps;
  const to = flags.resize === undefined ? preset.resize?.to : resizeTo(flags.resize);
  const filter = resizeFilter(flags, preset.resize?.filter ?? { kernel: 'bilinear', antialias: true });
  const ofValues = preset.resize?.of === 'values' && filter.kernel === 'bilinear';
  const crop = flags.crop === undefined ? (flags.resize === undefined ? preset.crop : undefined) : cropTo(flags.crop);
  const { resize: _, crop: __, ...rest } = preset;
  return {
    ...rest,
    ...(to !== undefined && { resize: { to, filter, ...(ofValues && { of: 'values' as const }) } }),
    ...(crop !== undefined && { crop }),
    order: flags.order ?? preset.order,
    scale: flags.scale ?? preset.scale,
    mean: flags.mean ?? preset.mean,
    std: flags.std ?? preset.std,
    layout: flags.layout ?? preset.layout,
    dtype,
  };
}

const resizeTo = (size: SizeOption) =>
  'side' in size ? ({ kind: 'short-side', size: size.side } as const) : ({ kind: 'exact', ...size } as const);
const cropTo = (size: SizeOption) => ('side' in size ? { width: size.side, height: size.side } : size);

function resizeFilter(flags: StepFlags, preset: ResizeFilter): ResizeFilter {
  const kernel = flags.filter ?? preset.kernel;
  if (flags.antialias ?? preset.antialias) return { kernel, antialias: true };
  if (kernel !== 'lanczos') return { kernel, antialias: false };
  throw new ModelError('option-invalid', 'lanczos is there with antialias only', {
    hint: 'Say --antialias, or --filter bicubic.',
  });
}

/** Engines for the picture shapes met so far: a model with open dims is built once a shape. */
class EnginesByShape {
  readonly #runners = new Map<string, EngineRunner>();
  readonly #model: ModelInput;
  readonly #inputName: string;
  readonly #flags: ModelFlags;
  readonly #terminal: Terminal;

  constructor(model: ModelInput, inputName: string, flags: ModelFlags, terminal: Terminal) {
    this.#model = model;
    this.#inputName = inputName;
    this.#flags = flags;
    this.#terminal = terminal;
  }

  async forTensor({ shape }: Tensor): Promise<EngineRunner> {
    const key = shape.join();
    const known = this.#runners.get(key);
    if (known !== undefined) return known;
    const engine = await prepareEngine(this.#model, this.#flags, this.#terminal, { [this.#inputName]: shape });
    const runner = await openEngineRunner(engine, this.#flags, this.#terminal);
    this.#runners.set(key, runner);
    return runner;
  }

  async dispose(): Promise<void> {
    for (const runner of this.#runners.values()) await runner.dispose();
  }
}

/** The likeliest classes by the model's first output, whose elements are the classes. */
function rankClasses(
  outputs: ReadonlyMap<string, Tensor>,
  labels: readonly string[],
  flags: ClassifyFlags,
): ClassifiedImage['classes'] {
  const [output] = outputs.values();
  return topK(confidences(toNumbers(output)), flags.top)
    .filter(({ confidence }) => confidence >= flags.threshold)
    .map(({ index, confidence }) => ({ index, label: labels[index] ?? `class ${index}`, confidence }));
}

function imageText({ file, classes, preprocessMs, inferenceMs }: ClassifiedImage): string {
  const rows = classes.map(({ index, label, confidence }) => [
    `${(100 * confidence).toFixed(2)} %`,
    String(index),
    label,
  ]);
  return [
    `${file}  (preprocessing ${formatMs(preprocessMs)}, inference ${formatMs(inferenceMs)})`,
    rows.length === 0 ? 'no class reaches the threshold' : textTable(['confidence', 'class', 'label'], rows),
  ].join('\n');
}
