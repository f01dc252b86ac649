/**
 * The .pt2 archive of torch.export.save: a program, and the tensors that it names.
 *
 *     since 2.8   NAME/models/model.json, NAME/data/weights/ and NAME/data/constants/ with a file a tensor and a JSON index each
 *     before      serialized_exported_program.json, and serialized_state_dict.pt and serialized_constants.pt as checkpoints are
 */
import { DTYPES } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { isStatic } from '../../core/shape.ts';
import type { Tensor } from '../../core/tensor.ts';
import { readCheckpoint } from '../checkpoint.ts';
import { TensorMaker } from '../storages.ts';
import type { ZipArchive } from '../zip.ts';
import { type Json, listOf, memberOf, numberOf, objectOf, parseJson, textOf } from './json.ts';
import { type Program, parseProgram, typeOf } from './schema.ts';

export interface ProgramArchive {
  readonly program: Program;
  /** Parameters and buffers by their names in the module. */
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly constants: ReadonlyMap<string, Tensor>;
}

const OLD_PROGRAM = 'serialized_exported_program.json';
const PROGRAM = /^(.*\/)?models\/[^/]+\.json$/;

export const isProgramArchive = ({ names }: ZipArchive): boolean =>
  names.some((name) => name.endsWith(OLD_PROGRAM) || PROGRAM.test(name));

/** Throws ModelError `torch-parse` or `torch-unsupported`. */
export function readProgramArchive(zip: ZipArchive, fileBytes: number): ProgramArchive {
  const programs = zip.names.filter((name) => PROGRAM.test(name));
  if (programs.length > 1) {
    throw new ModelError('torch-unsupported', `the archive holds ${programs.length} programs: ${programs.join(', ')}`, {
      hint: 'Save one program an archive.',
    });
  }
  const [programName] = programs;
  if (programName === undefined) return readOld(zip);
  const root = programName.slice(0, programName.lastIndexOf('models/'));
  return {
    program: parseProgram(entry(zip, programName)),
    weights: readPayloads(zip, `${root}data/weights/`, 'weights', fileBytes),
    constants: readPayloads(zip, `${root}data/constants/`, 'constants', fileBytes),
  };
}

function readOld(zip: ZipArchive): ProgramArchive {
  const name = zip.names.find((n) => n.endsWith(OLD_PROGRAM)) ?? OLD_PROGRAM;
  const root = name.slice(0, -OLD_PROGRAM.length);
  const tensors = (file: string): ReadonlyMap<string, Tensor> => {
    const bytes = zip.read(root + file);
    // A program without constants has an empty dict there, or nothing.
    if (bytes === undefined || bytes.length === 0) return new Map();
    return readCheckpoint(bytes);
  };
  return {
    program: parseProgram(entry(zip, name)),
    weights: tensors('serialized_state_dict.pt'),
    constants: tensors('serialized_constants.pt'),
  };
}

function entry(zip: ZipArchive, name: string): Uint8Array {
  const bytes = zip.read(name);
  if (bytes) return bytes;
  throw new ModelError('torch-parse', `the exported program is damaged: ${name} is missing`);
}

/** The tensors of a folder by its index `model_NAME_config.json`. */
function readPayloads(zip: ZipArchive, folder: string, what: string, fileBytes: number): Map<string, Tensor> {
  const indexName = zip.names.find((name) => name.startsWith(folder) && name.endsWith(`_${what}_config.json`));
  if (indexName === undefined) return new Map();
  const index = objectOf(objectOf(parseJson(entry(zip, indexName), indexName), indexName).config, indexName);
  const maker = new TensorMaker(({ key }) => entry(zip, key), fileBytes);
  return new Map(
    Object.entries(index).map(([name, meta]): [string, Tensor] => [name, payload(zip, folder, name, meta, maker)]),
  );
}

function payload(zip: ZipArchive, folder: string, name: string, value: Json, maker: TensorMaker): Tensor {
  const { path_name: path, use_pickle: isPickled, tensor_meta: meta } = objectOf(value, name);
  if (isPickled === true || meta === undefined || meta === null) {
    throw new ModelError('torch-unsupported', `"${name}" of the exported program is no plain tensor, and is not read`);
  }
  const key = folder + textOf(path, name);
  const { dtype, shape } = typeOf(meta, name);
  if (!isStatic(shape)) throw new ModelError('torch-parse', `"${name}" of the exported program has no fixed size`);
  const { strides, storage_offset: offset } = objectOf(meta, name);
  const count = entry(zip, key).length / DTYPES[dtype].bytes;
  const storage = { key, dtype, count };
  const integer = (n: Json): number => numberOf(memberOf(n, name)[1], name);
  return maker.make(
    { storage, dtype, offset: integer(offset), shape, strides: listOf(strides, name).map(integer) },
    `weight "${name}"`,
  );
}
