// The files of an unpacked artifact, each compared with the size and the SHA-256 that its manifest lists.

const MANIFEST = 'manifest.json', SCHEMA = 2;
const LARGEST = {manifest: 4 << 20, file: 2 ** 31 - 1}; // bytes

export async function sha256(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(found, one => one.toString(16).padStart(2, '0')).join('');
}

// Throws where bytes are not what was listed; `about` says where they came from.
export async function check(about, bytes, {size, sha256: wanted}) {
  if (bytes.length !== size)
    throw new Error(`${about} has ${bytes.length} bytes, not ${size}: the download was cut, or it is another file`);
  if ((await sha256(bytes)) !== wanted) throw new Error(`${about} is damaged: its SHA-256 is another one than was listed`);
  return bytes;
}

// `fetchBytes(name, proof)` gives what `proof` gives for the bytes of a file of the folder; `listed` is known of the manifest.
export async function openFolder(fetchBytes, listed) {
  const text = await fetchBytes(MANIFEST, bytes => {
    if (bytes.length > LARGEST.manifest) throw new Error(`${MANIFEST} has ${bytes.length} bytes; ${LARGEST.manifest} are allowed`);
    return listed ? check(MANIFEST, bytes, listed) : bytes;
  });
  const manifest = JSON.parse(new TextDecoder().decode(text));
  if (manifest.schema !== SCHEMA) throw new Error(`${MANIFEST} has schema ${manifest.schema}, not ${SCHEMA}`);
  const members = {...manifest.members, ...(manifest.report ? {'report.json': manifest.report} : {})};
  const read = async name => {
    const member = Object.hasOwn(members, name) ? members[name] : null;
    if (!member) throw new Error(`${name} is not in the manifest`);
    if (!(member.size <= LARGEST.file)) throw new Error(`${name} has ${member.size} bytes; ${LARGEST.file} are allowed`);
    return fetchBytes(name, bytes => check(name, bytes, member));
  };
  const json = async name => JSON.parse(new TextDecoder().decode(await read(name)));
  return {manifest, members, read, json};
}
