package org.medge.core

import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import java.io.File
import java.io.IOException

/** What becomes of a bundle that no trusted key has signed. */
enum class Policy(val id: String) { OFF("off"), WARN("warn"), REFUSE("refuse") }

/** A file of the trust folder, and what is in it. */
private class Rotation(val by: String, val key: PublicKey, val envelope: Envelope)

/** The keys whose signatures this phone takes, as the folder says that `medge keys trust` writes; the Python runtime reads it alike. */
class Trust private constructor(
    val policy: Policy,
    private val keys: Map<String, PublicKey>,
    private val revoked: Map<String, String>,
) {
    /** {fingerprint: name} of the keys that are trusted. */
    val trusted: Map<String, String> get() = keys.mapValues { it.value.name }

    /**
     * Whether a trusted key says of a bundle what its manifest says; the files' bytes are hashed by whoever copies them.
     *
     * @param signature what lies in the bundle as [SIGNATURE], or null
     * @param bytes the manifest as it lies there
     * @throws MedgeException by [Problem.UNSIGNED], [Problem.SIGNATURE_DAMAGED], [Problem.SIGNATURE_FORGED], [Problem.KEY_UNKNOWN],
     *     [Problem.KEY_REVOKED] or [Problem.NOT_WHAT_WAS_SIGNED]; which of them are warnings says the [policy]
     */
    fun check(signature: ByteArray?, bytes: ByteArray, manifest: Manifest) {
        if (signature == null) throw MedgeException(Problem.UNSIGNED)
        val files = try {
            val envelope = Envelope.parse(signature)
            sound(envelope.payloadType == Envelope.IN_TOTO, "payload type")
            checkSigner(envelope)
            Statement.read(envelope.payload)
        } catch (error: Unreadable) {
            throw MedgeException(Problem.SIGNATURE_DAMAGED, error.message!!, cause = error)
        }
        for (entry in manifest.files) demand(files[entry.path] == entry.sha256, Problem.NOT_WHAT_WAS_SIGNED) { listOf(entry.path) }
        demand(files[Manifest.NAME] == sha256(bytes), Problem.NOT_WHAT_WAS_SIGNED) { listOf(Manifest.NAME) }
    }

    private fun checkSigner(envelope: Envelope) {
        revoked[envelope.hint]?.let { throw MedgeException(Problem.KEY_REVOKED, short(envelope.hint), it) }
        val key = keys[envelope.hint] ?: throw MedgeException(Problem.KEY_UNKNOWN, short(envelope.hint))
        demand(envelope.isBy(key), Problem.SIGNATURE_FORGED) { listOf(key.name) }
    }

    companion object {
        const val SIGNATURE = "model.sig"
        private const val STATE = "trust.json"
        private const val REVOKED = "revoked.json"
        private const val MOST_BYTES = 1L shl 20

        /**
         * Read a trust folder and check all that is signed in it.
         *
         * @throws MedgeException [Problem.TRUST_DAMAGED] names the file that is damaged, missing, or not signed by whom it says
         */
        fun open(folder: File): Trust {
            val (policy, counter) = reading(STATE) { state(folder) }
            val found = File(folder, "keys").listFiles().orEmpty().sortedBy { it.name }
            val placed = found.filter { it.extension == "pub" }.map { reading(it.name) { PublicKey.parse(text(it), it.nameWithoutExtension) } }
            val rotations = found.filter { it.extension == "rotation" }.map { file -> file.name to reading(file.name) { rotation(file) } }
            val everyone = (placed + rotations.map { it.second.key }).associateBy { it.fingerprint }
            for ((name, one) in rotations) reading(name) { signedBy(one.envelope, everyone) }
            val revoked = reading(REVOKED) { revocations(File(folder, REVOKED), counter, everyone) }
            val vouched = placed.map { it.fingerprint }.toMutableSet()
            do {
                val more = rotations.map { it.second }.filter { it.by in vouched && revoked[it.by]?.second?.contains(it.key.fingerprint) != false }
            } while (vouched.addAll(more.map { it.key.fingerprint }))
            val keys = everyone.filterKeys { it in vouched && it !in revoked }
            return Trust(policy, keys, revoked.mapValues { it.value.first })
        }

        /** A fingerprint as people compare it: its first 16 digits in fours. */
        fun short(fingerprint: String): String = fingerprint.take(16).chunked(4).joinToString("-")

        private fun <T> reading(name: String, read: () -> T): T = try {
            read()
        } catch (error: Unreadable) {
            throw MedgeException(Problem.TRUST_DAMAGED, name, cause = error)
        } catch (error: IOException) {
            throw MedgeException(Problem.TRUST_DAMAGED, name, cause = error)
        }

        private fun text(file: File): String {
            sound(file.isFile && file.length() <= MOST_BYTES, "file")
            return file.readText()
        }

        private fun state(folder: File): Pair<Policy, Long> {
            val body = strictObject(text(File(folder, STATE)).toByteArray())
            body.only("policy", "counter", "format")
            sound(body.long("format") == 1L, "format")
            val policy = Policy.values().firstOrNull { it.id == body.words("policy") } ?: throw Unreadable("policy")
            return policy to (body.long("counter") ?: throw Unreadable("counter"))
        }

        private fun signedBy(envelope: Envelope, everyone: Map<String, PublicKey>) {
            sound(everyone[envelope.hint]?.let(envelope::isBy) == true, "signature")
        }

        private fun rotation(file: File): Rotation {
            val envelope = Envelope.parse(text(file).toByteArray())
            sound(envelope.payloadType == Envelope.ROTATION, "payload type")
            val body = strictObject(envelope.payload)
            body.only("name", "created", "key", "format")
            sound(body.long("format") == 1L, "format")
            return Rotation(envelope.hint, PublicKey.of(body.words("name"), body.words("key")), envelope)
        }

        /** {fingerprint: (reason, the keys that stay though it signed them)}; the list may have revoked the very key that signed it. */
        private fun revocations(file: File, counter: Long, everyone: Map<String, PublicKey>): Map<String, Pair<String, Set<String>>> {
            if (!file.exists()) {
                sound(counter == 0L, "missing")
                return emptyMap()
            }
            val envelope = Envelope.parse(text(file).toByteArray())
            sound(envelope.payloadType == Envelope.REVOCATIONS, "payload type")
            signedBy(envelope, everyone)
            val body = strictObject(envelope.payload)
            body.only("counter", "created", "revoked", "format")
            sound(body.long("format") == 1L && (body.long("counter") ?: 0) >= maxOf(1, counter), "older")
            val found = body.items("revoked").map { item ->
                val one = item as? JsonObject ?: throw Unreadable("revoked")
                val keeps = one.list("keeps")?.map { (it as? JsonPrimitive)?.asString ?: throw Unreadable("keeps") }.orEmpty()
                one.words("key") to (one.text("reason").orEmpty() to keeps.toSet())
            }
            sound(found.all { isSha256(it.first) } && found.map { it.first }.toSet().size == found.size, "revoked")
            return found.toMap()
        }
    }
}
