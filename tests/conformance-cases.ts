/**
 * The ONNX backend tests of Debian's package libonnx-testdata (or of another release, in the folder ONNX_TESTDATA), as cases: a model, and data sets of inputs and expected outputs.
 *
 * A test that needs what Hotrod is not for (strings, sequences and optionals at the border, training, randomness) is outside, by a rule
 * that looks at the model and not at the test's name.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import type { Tensor } from '../src/core/tensor.ts';
import { nameOfCode } from '../src/onnx/dtypes.ts';
import { externalReader } from '../src/onnx/external-data.ts';
import { type ModelProto, TensorProtoSchema } from '../src/onnx/onnx_pb.ts';
import { parseModel } from '../src/onnx/parse-model.ts';
import { readTensor } from '../src/onnx/tensors.ts';

/** ONNX_TESTDATA names another folder of that form: newer tests than Debian's. */
const FOLDER = process.env.ONNX_TESTDATA ?? '/usr/share/libonnx-testdata/data';
/** Folders of tests with their data beside them; the package's `real` has only links. */
const GROUPS = ['node', 'pytorch-converted', 'pytorch-operator', 'simple'] as const;
export type Group = (typeof GROUPS)[number];

export interface DataSet {
  /** In the order of the model's inputs, and of its outputs. */
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

export interface ConformanceCase {
  readonly group: Group;
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly inputNames: readonly string[];
  /** Why the test is outside of what Hotrod is for. */
  readonly outside: string | undefined;
  dataSets(): readonly DataSet[];
}

export const hasConformanceData = (): boolean => existsSync(FOLDER);

export function conformanceCases(): readonly ConformanceCase[] {
  return GROUPS.filter((g) => existsSync(join(FOLDER, g))).flatMap((group) =>
    readdirSync(join(FOLDER, group))
      .sort()
      .map((name) => readCase(group, name)),
  );
}

function readCase(group: Group, name: string): ConformanceCase {
  const folder = join(FOLDER, group, name);
  const bytes = readFileSync(join(folder, 'model.onnx'));
  const model = parseModel(bytes);
  return {
    group,
    name: name.replace(/^test_/, ''),
    bytes,
    inputNames: model.graph.input.map((input) => input.name),
    outside: whyOutside(model) ?? whyTraining(model, folder),
    dataSets: () =>
      readdirSync(folder)
        .filter((entry) => entry.startsWith('test_data_set_'))
        .sort()
        .map((entry) => readDataSet(join(folder, entry))),
  };
}

const RANDOM = /^(Bernoulli|Multinomial|RandomNormal|RandomUniform|RandomNormalLike|RandomUniformLike)$/;

function whyOutside(model: ModelProto): string | undefined {
  const { graph } = model;
  for (const info of [...(graph?.input ?? []), ...(graph?.output ?? [])]) {
    const type = info.type?.value;
    if (type?.case !== 'tensorType') return `a ${type?.case?.replace('Type', '')} goes in or out`;
    if (nameOfCode(type.value.elemType) === 'string') return 'a string tensor goes in or out';
  }
  for (const { opType, domain } of graph?.node ?? []) {
    if (domain.includes('training')) return `${opType} is for training`;
    if (RANDOM.test(opType)) return `${opType} is random`;
  }
  return undefined;
}

/** BatchNormalization and Dropout train where an attribute, or an input, says so. */
function whyTraining(model: ModelProto, folder: string): string | undefined {
  const why = (what: string) => `${what} trains`;
  for (const node of model.graph?.node ?? []) {
    if (node.attribute.some((a) => a.name === 'training_mode' && a.i !== 0n)) return why(node.opType);
    const mode = node.opType === 'Dropout' ? model.graph?.input.findIndex((i) => i.name === node.input[2]) : -1;
    if (mode === undefined || mode < 0) continue;
    if (readTensorFile(join(folder, 'test_data_set_0', `input_${mode}.pb`)).data[0] !== 0) return why(node.opType);
  }
  return undefined;
}

function readDataSet(folder: string): DataSet {
  const read = (kind: string): Tensor[] => {
    const files = readdirSync(folder).filter((file) => file.startsWith(`${kind}_`));
    return files.map((_, i) => readTensorFile(join(folder, `${kind}_${i}.pb`)));
  };
  return { inputs: read('input'), outputs: read('output') };
}

const readTensorFile = (path: string): Tensor =>
  readTensor(fromBinary(TensorProtoSchema, readFileSync(path)), path, externalReader(undefined));
