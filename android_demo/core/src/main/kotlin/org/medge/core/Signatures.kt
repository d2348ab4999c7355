package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction
import java.security.GeneralSecurityException
import java.security.KeyFactory
import java.security.Signature
import java.security.spec.X509EncodedKeySpec
import kotlin.io.encoding.Base64

/** What is no signature file, key or statement; the message says why. Whoever knows the file's name turns it into a [MedgeException]. */
internal class Unreadable(why: String, cause: Throwable? = null) : Exception(why, cause)

internal fun sound(condition: Boolean, why: String) {
    if (!condition) throw Unreadable(why)
}

/** Base64 in the one form in which a content is written. */
internal fun decoded(text: String): ByteArray = try {
    Base64.decode(text).also { sound(Base64.encode(it) == text, "base64") }
} catch (error: IllegalArgumentException) {
    throw Unreadable("base64", error)
}

/** The object that UTF-8 bytes hold: strict JSON, no field twice, not nested without end; as the Python runtime reads it. */
internal fun strictObject(bytes: ByteArray): JsonObject = try {
    val text = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT).decode(ByteBuffer.wrap(bytes)).toString()
    val reader = JsonReader(StringReader(text))
    val value = strictValue(reader, 0)
    sound(reader.peek() == JsonToken.END_DOCUMENT, "JSON")
    value as? JsonObject ?: throw Unreadable("JSON")
} catch (error: CharacterCodingException) {
    throw Unreadable("UTF-8", error)
} catch (error: IOException) { // malformed, or cut
    throw Unreadable("JSON", error)
} catch (error: IllegalStateException) {
    throw Unreadable("JSON", error)
}

private fun strictValue(reader: JsonReader, depth: Int): JsonElement {
    sound(depth < 32, "JSON")
    return when (reader.peek()) {
        JsonToken.BEGIN_OBJECT -> JsonObject().also {
            reader.beginObject()
            while (reader.hasNext()) {
                val name = reader.nextName()
                sound(!it.has(name), "'${name.take(80)}' twice")
                it.add(name, strictValue(reader, depth + 1))
            }
            reader.endObject()
        }
        JsonToken.BEGIN_ARRAY -> JsonArray().also {
            reader.beginArray()
            while (reader.hasNext()) it.add(strictValue(reader, depth + 1))
            reader.endArray()
        }
        JsonToken.STRING -> JsonPrimitive(reader.nextString())
        JsonToken.NUMBER -> JsonPrimitive(reader.nextString().toBigDecimalOrNull() ?: throw Unreadable("JSON"))
        JsonToken.BOOLEAN -> JsonPrimitive(reader.nextBoolean())
        JsonToken.NULL -> JsonNull.INSTANCE.also { reader.nextNull() }
        else -> throw Unreadable("JSON")
    }
}

/** Refuse fields that are not [names]; all but the [optional] ones must be there. */
internal fun JsonObject.only(vararg names: String, optional: Set<String> = emptySet()) {
    sound(keySet().all { it in names }, "unknown field")
    sound(names.all { it in optional || has(it) }, "missing field")
}

internal fun JsonObject.words(name: String): String = text(name) ?: throw Unreadable(name)

internal fun JsonObject.branch(name: String): JsonObject = child(name) ?: throw Unreadable(name)

internal fun JsonObject.items(name: String): JsonArray = list(name) ?: throw Unreadable(name)

private val SHA256 = Regex("[0-9a-f]{64}")

internal fun isSha256(text: String): Boolean = SHA256.matches(text)

/** A signature file: a Sigstore bundle with a DSSE envelope, as OpenSSF's model-signing writes it with a key. Nothing of it is checked yet. */
internal class Envelope(val hint: String, val payloadType: String, val payload: ByteArray, private val signature: ByteArray) {
    /** Whether the owner of [key] has signed this. */
    fun isBy(key: PublicKey): Boolean {
        val kind = payloadType.toByteArray()
        val head = "DSSEv1 ${kind.size} $payloadType ${payload.size} ".toByteArray()
        return try {
            Signature.getInstance(key.curve.algorithm).run {
                initVerify(KeyFactory.getInstance("EC").generatePublic(X509EncodedKeySpec(key.der)))
                update(head)
                update(payload)
                verify(signature)
            }
        } catch (_: GeneralSecurityException) { // also what has not the form of a signature
            false
        }
    }

    companion object {
        const val IN_TOTO = "application/vnd.in-toto+json"
        const val ROTATION = "application/vnd.medge.key+json"
        const val REVOCATIONS = "application/vnd.medge.revocations+json"
        const val MOST_BYTES = 4 shl 20
        private const val MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

        /** @throws Unreadable it is none, or of a form that a key alone can't check */
        fun parse(bytes: ByteArray): Envelope {
            val body = strictObject(bytes)
            body.only("mediaType", "verificationMaterial", "dsseEnvelope")
            sound(body.words("mediaType") == MEDIA_TYPE, "media type")
            val material = body.branch("verificationMaterial")
            material.only("publicKey", "tlogEntries", optional = setOf("tlogEntries"))
            sound(!material.has("tlogEntries") || material.items("tlogEntries").isEmpty, "transparency log")
            val key = material.branch("publicKey")
            key.only("hint")
            val hint = key.words("hint")
            sound(isSha256(hint), "fingerprint")
            val envelope = body.branch("dsseEnvelope")
            envelope.only("payload", "payloadType", "signatures")
            val one = envelope.items("signatures").singleOrNull() as? JsonObject ?: throw Unreadable("signatures")
            one.only("sig", "keyid", optional = setOf("keyid"))
            sound(!one.has("keyid") || one.words("keyid") in setOf("", hint), "keyid")
            return Envelope(hint, envelope.words("payloadType"), decoded(envelope.words("payload")), decoded(one.words("sig")))
        }
    }
}

/** What a signature says about a folder's files: model-signing's statement. */
internal object Statement {
    private const val STATEMENT = "https://in-toto.io/Statement/v1"
    private const val PREDICATE = "https://model_signing/signature/v1.0"

    /** {path: SHA-256}. @throws Unreadable it is no such statement, or one by other rules, or of a single file */
    fun read(payload: ByteArray): Map<String, String> {
        val body = strictObject(payload)
        sound(body.words("_type") == STATEMENT && body.words("predicateType") == PREDICATE, "statement")
        val predicate = body.branch("predicate")
        val how = predicate.branch("serialization")
        sound(how.words("method") == "files" && how.words("hash_type") == "sha256", "SHA-256 of whole files")
        sound(!how.has("allow_symlinks") || how.flag("allow_symlinks") == false, "links")
        val files = LinkedHashMap<String, String>()
        for (one in predicate.items("resources")) {
            val resource = one as? JsonObject ?: throw Unreadable("resources")
            val (path, digest) = resource.words("name") to resource.words("digest")
            sound(resource.words("algorithm") == "sha256" && isSha256(digest), "SHA-256")
            sound(Manifest.isInside(path) && path != ".", "path")
            sound(files.put(path, digest) == null, "a file twice")
        }
        sound(files.isNotEmpty(), "files")
        val subject = body.items("subject").singleOrNull() as? JsonObject ?: throw Unreadable("subject")
        val digest = subject.branch("digest")
        digest.only("sha256")
        sound(digest.words("sha256") == sha256(files.values.map(::unhex).fold(ByteArray(0), ByteArray::plus)), "sum")
        return files
    }

    private fun unhex(text: String) = ByteArray(text.length / 2) { text.substring(2 * it, 2 * it + 2).toInt(16).toByte() }
}

/** A curve that keys are on, its signatures, and how a public key on it begins (SubjectPublicKeyInfo, uncompressed point). */
internal enum class Curve(val algorithm: String, private val start: String, private val size: Int) {
    P256("SHA256withECDSA", "3059301306072a8648ce3d020106082a8648ce3d03010703420004", 91),
    P384("SHA384withECDSA", "3076301006072a8648ce3d020106052b8104002203620004", 120),
    ;

    companion object {
        /** @throws Unreadable a key of another kind, or in another form */
        fun of(der: ByteArray): Curve =
            values().firstOrNull { der.size == it.size && hex(der.copyOf(it.start.length / 2)) == it.start } ?: throw Unreadable("curve")
    }
}

/** A key that signatures are checked with; its [fingerprint] is the SHA-256 of its PEM. */
internal class PublicKey private constructor(val name: String, val der: ByteArray, val curve: Curve, val fingerprint: String) {
    companion object {
        private const val BEGIN = "-----BEGIN PUBLIC KEY-----\n"
        private const val END = "-----END PUBLIC KEY-----\n"
        private val NAME = Regex("Name: ([^\n]*)\n")

        /** Read a `.pub` file. @throws Unreadable it is none, or not on P-256 or P-384 */
        fun parse(text: String, file: String): PublicKey {
            val lines = text.replace("\r\n", "\n").let { if (it.endsWith("\n")) it else it + "\n" }
            sound("PRIVATE KEY-----" !in lines, "a private key")
            val at = lines.indexOf(BEGIN)
            sound(at >= 0, "PEM")
            return of(NAME.find(lines.substring(0, at))?.groupValues?.get(1) ?: file, lines.substring(at))
        }

        /** @throws Unreadable the PEM is no key, or not in the one form in which a key is written */
        fun of(name: String, pem: String): PublicKey {
            sound(pem.startsWith(BEGIN), "PEM")
            val der = decoded(pem.removePrefix(BEGIN).substringBefore("-----").replace("\n", ""))
            val written = BEGIN + Base64.encode(der).chunked(64).joinToString("") { it + "\n" } + END
            sound(pem.startsWith(written), "PEM")
            return PublicKey(name, der, Curve.of(der), sha256(written.toByteArray()))
        }
    }
}
