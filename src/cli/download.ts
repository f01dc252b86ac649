/**
 * `hotrod download`: weights that torchvision publishes, into the user's cache or a file. Commands that are given such a name instead of
 * a file fetch them the same way.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { ModelError } from '../core/errors.ts';
import { knob } from '../core/knobs.ts';
import { cacheHome } from '../host/cache-folder.ts';
import { download, hasDigest } from '../host/download.ts';
import { PUBLISHED, type PublishedWeights, publishedWeights } from '../torch/published.ts';
import { startProgress } from './progress.ts';
import { formatBytes } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface DownloadFlags {
  readonly output?: string;
  readonly list?: boolean;
  readonly json?: boolean;
}

export function addDownloadCommand(program: Command): void {
  program
    .command('download')
    .argument('[name]', 'resnet50, or resnet50:IMAGENET1K_V2')
    .option('-o, --output <file>', "where to put it; the user's cache if not given")
    .option('--list', 'print the names that there are')
    .description('fetch weights that torchvision publishes')
    .option('--json', 'print one JSON object on stdout and nothing else there')
    .addHelpText('after', '\nExample: hotrod download resnet50:IMAGENET1K_V2')
    .action(downloadCommand);
}

async function downloadCommand(name: string | undefined, flags: DownloadFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  if (flags.list || name === undefined) {
    const names = PUBLISHED.map(({ arch, weights }) => `${arch}:${weights}`);
    return terminal.result({ names }, () => names.join('\n'));
  }
  const fetched = await fetchWeights(name, terminal, flags.output);
  terminal.result(fetched, () => fetched.file);
}

export interface FetchedWeights {
  readonly file: string;
  readonly arch: string;
  readonly weights: string;
  /** True where the file was there already. */
  readonly cached: boolean;
}

/**
 * The file of published weights: from the cache, or downloaded now. Throws ModelError `option-invalid` for a name that is none,
 * `download-failed` with where to put a file that was fetched elsewhere, `file-write`.
 */
export async function fetchWeights(name: string, terminal: Terminal, output?: string): Promise<FetchedWeights> {
  const published = publishedWeights(name);
  if (!published) {
    throw new ModelError('option-invalid', `torchvision publishes no weights "${name}" that are known here`, {
      hint: `Names: ${[...new Set(PUBLISHED.map(({ arch }) => arch))].join(', ')}; hotrod download --list shows all.`,
    });
  }
  const { arch, weights, sha256 } = published;
  const file = output ?? cachedFile(published);
  const cached = await hasDigest(file, sha256);
  if (!cached) await fetchFile(published, file, terminal);
  return { file, arch, weights, cached };
}

function cachedFile({ file }: PublishedWeights): string {
  const home = cacheHome('hotrod');
  if (home !== undefined) return join(home, 'weights', file);
  throw new ModelError('file-write', 'this machine has no place for caches', { hint: 'Name a file with --output.' });
}

async function fetchFile(
  { file: remote, url, sha256 }: PublishedWeights,
  file: string,
  terminal: Terminal,
): Promise<void> {
  const mirror = knob('HOTROD_WEIGHTS_URL').replace(/\/$/, '');
  const progress = await startProgress(terminal, `downloading ${remote}`);
  const shown = (bytes: number, total: number | undefined): void => {
    const fraction = total === undefined ? 0 : bytes / total;
    // Steps of ten percent, so that plain logs stay short.
    const size =
      total === undefined ? formatBytes(bytes) : `${Math.floor(fraction * 10) * 10} % of ${formatBytes(total)}`;
    progress.update({ stage: size, fraction });
  };
  try {
    await download({ url: mirror === '' ? url : `${mirror}/${remote}`, file, sha256, onProgress: shown });
  } catch (error) {
    progress.failed();
    throw error;
  }
  progress.done(`downloaded ${file}`);
}
