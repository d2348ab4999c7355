// Files that were chosen or dropped, and those in dropped folders, as a CD has them: a list of { file, name }.

export const chosen = (files) => [...files].map((file) => ({ file, name: file.name }));

/** All files of a drop, folders walked, in the order of their names; a name has its folders. */
export async function dropped({ items, files }) {
  const all = [...files];
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()); // before the first await: the lists are emptied then
  if (!entries.every(Boolean)) return chosen(all);
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    return [{ file, name: entry.fullPath.slice(1) }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); }); // a hundred at a time
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(found.map(walk))).flat();
}
