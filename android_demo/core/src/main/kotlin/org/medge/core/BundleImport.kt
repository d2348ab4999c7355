package org.medge.core

import java.io.File
import java.io.FileNotFoundException
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where a bundle comes from: a USB stick, a file provider, a folder. Paths are those of the manifest. */
interface BundleSource {
    /** The bytes of a file from [offset] on; @throws FileNotFoundException there is none. */
    fun open(path: String, offset: Long): InputStream
}

/** A source that is a folder of the file system. */
class FolderSource(private val folder: File) : BundleSource {
    override fun open(path: String, offset: Long): InputStream {
        val file = File(folder, path)
        if (!file.isFile) throw FileNotFoundException(path)
        val stream = file.inputStream()
        stream.skipFully(offset)
        return stream
    }
}

/** Skip exactly this many bytes, or to the end. */
fun InputStream.skipFully(count: Long) {
    var left = count
    while (left > 0) {
        val done = skip(left)
        if (done <= 0) {
            if (read() < 0) return
            left -= 1
        } else {
            left -= done
        }
    }
}

/** What of an import is done, in bytes. */
class Progress(val path: String, val done: Long, val total: Long)

/**
 * The bundles that an app keeps, one folder each, and for each kind of model the one in use.
 *
 * An import copies under a temporary name, hashes what it writes, and goes on where an earlier one stopped. Only when every hash is right
 * and [import]'s `accept` has seen the phone compute what the bundle promises, one rename makes it the bundle in use; the one before stays
 * in use until then, whatever happens.
 *
 * With [trust], only what a trusted key has signed is imported; it is asked for at each import, and not when a bundle is used later.
 */
class BundleStore(
    private val root: File,
    private val trust: () -> Trust? = { null },
    private val freeSpace: () -> Long = { root.usableSpace },
) {
    /** The bundle in use, or null. */
    fun current(kind: Kind): Bundle? {
        val place = File(root, kind.id)
        val name = File(place, CURRENT).takeIf { it.isFile }?.readText()?.trim() ?: return null
        return File(place, name).takeIf { it.isDirectory }?.let(Bundle::open)
    }

    /**
     * Import a bundle, or go on with its import.
     *
     * @param accept looks at the complete copy and throws where this phone should not use it (see [Golden.replay])
     * @param warn is told why a bundle would be refused, where the policy is to warn
     * @throws MedgeException in words for whatever is wrong; after `DISK_FULL` and `COPY_INTERRUPTED`, importing again goes on
     */
    fun import(
        source: BundleSource,
        device: Device,
        accept: (Bundle) -> Unit,
        warn: (MedgeException) -> Unit = {},
        progress: (Progress) -> Unit = {},
    ): Bundle {
        val bytes = readManifest(source)
        val manifest = Manifest.parse(bytes)
        val signature = checkSignature(source, bytes, manifest, warn)
        manifest.checkUsable()
        Planner.plan(manifest, device).checked()
        val place = File(root, manifest.kind.id)
        val name = manifest.digest.take(16)
        val final = File(place, name)
        if (!final.isDirectory) {
            val partial = File(place, "$PARTIAL$name")
            copyAll(source, manifest, partial, progress)
            File(partial, Manifest.NAME).writeBytes(bytes)
            signature?.let { File(partial, Trust.SIGNATURE).writeBytes(it) }
            val copied = Bundle.open(partial)
            try {
                copied.verify(hashes = false) // hashed while it was written
                ScoreCalibration.of(copied) // thresholds of another bundle must not be taken for this one's
                accept(copied)
            } catch (error: MedgeException) {
                if (error.problem in REFUSED) partial.deleteRecursively()
                throw error
            }
            if (!partial.renameTo(final)) throw MedgeException(Problem.COPY_INTERRUPTED, name)
        }
        use(place, name)
        return Bundle.open(final)
    }

    /** Make a bundle the one in use, by one rename, then drop all others of its kind. */
    private fun use(place: File, name: String) {
        val next = File(place, "$CURRENT.next")
        FileOutputStream(next).use {
            it.write(name.toByteArray())
            it.fd.sync()
        }
        if (!next.renameTo(File(place, CURRENT))) throw MedgeException(Problem.COPY_INTERRUPTED, name)
        place.listFiles().orEmpty().filter { it.isDirectory && it.name != name && !it.name.startsWith(PARTIAL) }.forEach { it.deleteRecursively() }
    }

    /** Forget half-copied bundles. */
    fun discardPartial() {
        Kind.values().flatMap { File(root, it.id).listFiles().orEmpty().asList() }.filter { it.name.startsWith(PARTIAL) }.forEach { it.deleteRecursively() }
    }

    /** The signature that held, or null where none was asked for or the policy is to warn. */
    private fun checkSignature(source: BundleSource, bytes: ByteArray, manifest: Manifest, warn: (MedgeException) -> Unit): ByteArray? {
        val trust = trust()?.takeIf { it.policy != Policy.OFF } ?: return null
        try {
            val signature = try {
                source.open(Trust.SIGNATURE, 0).use { it.readUpTo(Envelope.MOST_BYTES + 1) }
            } catch (_: FileNotFoundException) {
                null
            } catch (error: IOException) {
                throw MedgeException(Problem.COPY_INTERRUPTED, Trust.SIGNATURE, cause = error)
            }
            demand(signature == null || signature.size <= Envelope.MOST_BYTES, Problem.SIGNATURE_DAMAGED) { listOf("size") }
            trust.check(signature, bytes, manifest)
            return signature
        } catch (error: MedgeException) {
            if (trust.policy == Policy.REFUSE || error.problem == Problem.COPY_INTERRUPTED) throw error
            warn(error)
            return null
        }
    }

    private fun readManifest(source: BundleSource): ByteArray {
        val bytes = try {
            source.open(Manifest.NAME, 0).use { it.readUpTo(Manifest.MOST_BYTES + 1) }
        } catch (error: FileNotFoundException) {
            throw MedgeException(Problem.NO_MANIFEST, cause = error)
        } catch (error: IOException) {
            throw MedgeException(Problem.COPY_INTERRUPTED, Manifest.NAME, cause = error)
        }
        demand(bytes.size <= Manifest.MOST_BYTES, Problem.MANIFEST_DAMAGED)
        return bytes
    }

    private fun copyAll(source: BundleSource, manifest: Manifest, partial: File, progress: (Progress) -> Unit) {
        if (!partial.isDirectory && !partial.mkdirs()) throw full(manifest, partial)
        val missing = manifest.bytes - copied(manifest, partial)
        if (missing + SPARE > freeSpace()) throw full(manifest, partial)
        var before = 0L
        for (entry in manifest.files) {
            copy(source, entry, File(partial, entry.path), manifest, partial) { progress(Progress(entry.path, before + it, manifest.bytes)) }
            before += entry.bytes
        }
    }

    /** Copy one file, or the rest of it; its hash covers what was there before as well. */
    private fun copy(source: BundleSource, entry: FileEntry, target: File, manifest: Manifest, partial: File, progress: (Long) -> Unit) {
        target.parentFile?.mkdirs()
        val digest = MessageDigest.getInstance("SHA-256")
        if (target.length() > entry.bytes) target.delete()
        if (target.isFile) target.inputStream().use { feed(it, digest) }
        var done = target.length()
        if (done < entry.bytes || !target.isFile) {
            val input = try {
                source.open(entry.path, done)
            } catch (error: FileNotFoundException) {
                throw MedgeException(Problem.FILE_MISSING, entry.path, cause = error)
            } catch (error: IOException) {
                throw MedgeException(Problem.COPY_INTERRUPTED, entry.path, cause = error)
            }
            input.use { stream ->
                val output = try { FileOutputStream(target, true) } catch (error: IOException) { throw full(manifest, partial, error) }
                output.use {
                    val buffer = ByteArray(1 shl 16)
                    while (done < entry.bytes) {
                        val count = try {
                            stream.read(buffer, 0, minOf(buffer.size.toLong(), entry.bytes - done).toInt())
                        } catch (error: IOException) {
                            throw MedgeException(Problem.COPY_INTERRUPTED, entry.path, cause = error)
                        }
                        demand(count >= 0, Problem.FILE_TRUNCATED) { listOf(entry.path, done, entry.bytes) }
                        try {
                            it.write(buffer, 0, count)
                        } catch (error: IOException) { // whatever the system calls it, a write that fails here has no room
                            throw full(manifest, partial, error)
                        }
                        digest.update(buffer, 0, count)
                        done += count
                        progress(done)
                    }
                    it.fd.sync()
                }
            }
        }
        if (hex(digest.digest()) != entry.sha256) {
            target.delete() // not to be taken up again
            throw MedgeException(Problem.FILE_CHANGED, entry.path)
        }
    }

    private fun copied(manifest: Manifest, partial: File): Long = manifest.files.sumOf { minOf(File(partial, it.path).length(), it.bytes) }

    private fun full(manifest: Manifest, partial: File, cause: Throwable? = null): MedgeException {
        val more = (manifest.bytes - copied(manifest, partial) + SPARE - freeSpace()).coerceAtLeast(1_000_000)
        return MedgeException(Problem.DISK_FULL, (more + 999_999) / 1_000_000, cause = cause)
    }

    private companion object {
        const val CURRENT = "current"
        const val PARTIAL = ".partial-"
        val REFUSED = setOf(Problem.COMPUTES_DIFFERENTLY, Problem.ENGINE_REFUSES, Problem.SCORES_OF_OTHER_BUNDLE, Problem.TENSORS_DAMAGED)
        const val SPARE = 32L shl 20 // for the index, conversations and the system
    }
}

private fun InputStream.readUpTo(most: Int): ByteArray {
    val out = java.io.ByteArrayOutputStream()
    val buffer = ByteArray(1 shl 14)
    while (out.size() < most) {
        val count = read(buffer, 0, minOf(buffer.size, most - out.size()))
        if (count < 0) break
        out.write(buffer, 0, count)
    }
    return out.toByteArray()
}
