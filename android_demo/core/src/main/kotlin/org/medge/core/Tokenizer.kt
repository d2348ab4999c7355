package org.medge.core

import com.google.gson.JsonObject
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.File
import java.io.IOException
import java.util.Locale

/**
 * MedSigLIP's tokenizer: lower case, no punctuation, SentencePiece's normalisation, then the likeliest pieces of a Unigram model.
 *
 * Gives the ids that the Python runtime gives with the same `tokenizer.json`; characters newer than the platform's Unicode tables may
 * differ in lower-casing and in where a grapheme ends.
 *
 * @param facts how a row of ids is ended and filled up
 */
class Tokenizer private constructor(
    private val facts: TokenizerFacts,
    private val ids: Map<String, Int>,
    private val scores: DoubleArray,
    private val unknown: Int,
    private val bytePieces: IntArray?,
    private val normalizers: List<(String) -> String>,
    private val specials: List<Special>,
) {
    private class Special(val content: String, val id: Int, val leftStrip: Boolean, val rightStrip: Boolean)

    /** Ids of one text, as many as the tower reads, and whether it had to be cut. */
    class Encoded(val ids: LongArray, val cut: Boolean)

    private val longestPiece = ids.keys.maxOf { it.length }
    private val unknownScore = scores.minOrNull()!! - UNKNOWN_PENALTY

    fun encode(text: String): Encoded {
        val tokens = tokens(text)
        val out = LongArray(facts.length) { facts.padId.toLong() }
        val kept = minOf(tokens.size, facts.length - 1)
        for (index in 0 until kept) out[index] = tokens[index].toLong()
        out[kept] = facts.endId.toLong()
        return Encoded(out, cut = kept < tokens.size)
    }

    /** 1 for each token of the text, its end among them, 0 behind it. */
    fun mask(ids: LongArray): LongArray {
        val end = ids.indexOf(facts.endId.toLong()).let { if (it < 0) ids.size else it }
        return LongArray(ids.size) { if (it <= end) 1 else 0 }
    }

    /** Ids without the end. */
    internal fun tokens(text: String): List<Int> {
        val out = ArrayList<Int>()
        var from = 0
        while (from <= text.length) {
            val (at, special) = nextSpecial(text, from) ?: break
            var to = at
            if (special.leftStrip) while (to > from && isSpace(text[to - 1])) to--
            encodeText(text.substring(from, to), out)
            out += special.id
            from = at + special.content.length
            if (special.rightStrip) while (from < text.length && isSpace(text[from])) from++
        }
        encodeText(text.substring(from), out)
        return out
    }

    /** The leftmost special token from [from] on; at one place, the longest. */
    private fun nextSpecial(text: String, from: Int): Pair<Int, Special>? =
        specials.mapNotNull { special -> text.indexOf(special.content, from).takeIf { it >= 0 }?.let { it to special } }
            .minWithOrNull(compareBy({ it.first }, { -it.second.content.length }))

    private fun encodeText(text: String, out: MutableList<Int>) {
        val normal = normalizers.fold(text) { sofar, step -> step(sofar) }
        if (normal.isEmpty()) return
        val marked = normal.replace(' ', MARK).let { if (it.startsWith(MARK)) it else MARK + it }
        // A word begins at each mark.
        var start = 0
        for (at in 1..marked.length) {
            if (at == marked.length || marked[at] == MARK) {
                viterbi(marked.substring(start, at), out)
                start = at
            }
        }
    }

    /** The likeliest division of one word into pieces; characters that no piece covers become their bytes. */
    private fun viterbi(word: String, out: MutableList<Int>) {
        val best = DoubleArray(word.length + 1)
        val from = IntArray(word.length + 1) { -1 }
        val piece = IntArray(word.length + 1)
        var at = 0
        while (at < word.length) {
            val char = Character.charCount(word.codePointAt(at))
            var covered = false
            var end = at
            while (end < word.length && end - at < longestPiece) {
                end += Character.charCount(word.codePointAt(end))
                val id = ids[word.substring(at, end)] ?: continue
                val score = best[at] + scores[id]
                if (from[end] < 0 || score > best[end]) {
                    best[end] = score
                    from[end] = at
                    piece[end] = id
                }
                covered = covered || end == at + char
            }
            if (!covered) {
                val score = best[at] + unknownScore
                if (from[at + char] < 0 || score > best[at + char]) {
                    best[at + char] = score
                    from[at + char] = at
                    piece[at + char] = unknown
                }
            }
            at += char
        }
        val ends = ArrayList<Int>()
        at = word.length
        while (at > 0) {
            ends += at
            at = from[at]
        }
        var run = StringBuilder() // neighbouring unknown characters are one piece
        for (end in ends.asReversed()) {
            if (piece[end] == unknown) {
                run.append(word, from[end], end)
                continue
            }
            unknownRun(run, out)
            run = StringBuilder()
            out += piece[end]
        }
        unknownRun(run, out)
    }

    private fun unknownRun(run: CharSequence, out: MutableList<Int>) {
        if (run.isEmpty()) return
        if (bytePieces == null) {
            out += unknown
        } else {
            run.toString().toByteArray().forEach { out += bytePieces[it.toInt() and 0xff] }
        }
    }

    companion object {
        private const val MARK = '▁'
        private const val UNKNOWN_PENALTY = 10.0 // SentencePiece's kUnkPenalty

        /** Unicode's White_Space, which Rust and Oniguruma mean by \s; Java's isWhitespace leaves out the no-break spaces. */
        private const val SPACES = "[\\x09-\\x0d\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
        private val SPACE = Regex(SPACES)

        private fun isSpace(char: Char): Boolean = SPACE.matches(char.toString())

        /**
         * Read `tokenizer.json`.
         *
         * @throws MedgeException not of the kind that MedSigLIP has
         */
        fun load(file: File, facts: TokenizerFacts): Tokenizer = try {
            read(file, facts)
        } catch (error: IOException) {
            throw MedgeException(Problem.TENSORS_DAMAGED, file.name, cause = error)
        } catch (error: RuntimeException) {
            throw MedgeException(Problem.TENSORS_DAMAGED, file.name, cause = error)
        }

        private fun read(file: File, facts: TokenizerFacts): Tokenizer {
            val names = ArrayList<String>(40_000)
            val scores = ArrayList<Double>(40_000)
            var model = JsonObject()
            val rest = JsonObject()
            // The vocabulary is streamed: as a tree of objects, 32,000 pairs would take ten times their text.
            JsonReader(file.reader()).use { reader ->
                reader.beginObject()
                while (reader.hasNext()) {
                    val name = reader.nextName()
                    if (name == "model") model = readModel(reader, names, scores)
                    else rest.add(name, com.google.gson.JsonParser.parseReader(reader))
                }
            }
            demand(model.text("type") == "Unigram", Problem.TOKENIZER_UNKNOWN) { listOf(model.text("type") ?: "?") }
            val ids = HashMap<String, Int>(names.size * 2)
            names.forEachIndexed { id, name -> ids[name] = id }
            val bytes = if (model.flag("byte_fallback") == true) IntArray(256) { ids.getValue("<0x%02X>".format(it)) } else null
            val normalizers = rest.child("normalizer")!!.list("normalizers")!!.map { normalizer(it as JsonObject) }
            val specials = rest.list("added_tokens")!!.map { it as JsonObject }.map {
                Special(it.text("content")!!, it.int("id")!!, it.flag("lstrip") == true, it.flag("rstrip") == true)
            }
            return Tokenizer(facts, ids, scores.toDoubleArray(), model.int("unk_id")!!, bytes, normalizers, specials)
        }

        /** One step of the normalisation. */
        private fun normalizer(step: JsonObject): (String) -> String = when (val type = step.text("type")) {
            "Lowercase" -> { text -> StringBuilder().also { out -> forEachCodePoint(text) { out.append(it.lowercase(Locale.ROOT)) } }.toString() }
            "Strip" -> { text -> text.trim { isSpace(it) } }
            "Precompiled" -> Charsmap(kotlin.io.encoding.Base64.decode(step.text("precompiled_charsmap")!!)).let { map -> { text -> map.apply(text) } }
            "Replace" -> {
                val pattern = step.child("pattern")?.text("Regex") ?: throw MedgeException(Problem.TOKENIZER_UNKNOWN, "Replace")
                val regex = Regex(pattern.replace("\\s", SPACES)) // Java's own \s knows ASCII only
                val content = Regex.escapeReplacement(step.text("content")!!);
                { text -> regex.replace(text, content) }
            }
            else -> throw MedgeException(Problem.TOKENIZER_UNKNOWN, type ?: "?")
        }

        private fun readModel(reader: JsonReader, names: MutableList<String>, scores: MutableList<Double>): JsonObject {
            val facts = JsonObject()
            reader.beginObject()
            while (reader.hasNext()) {
                val name = reader.nextName()
                if (name != "vocab" || reader.peek() != JsonToken.BEGIN_ARRAY) {
                    facts.add(name, com.google.gson.JsonParser.parseReader(reader))
                    continue
                }
                reader.beginArray()
                while (reader.hasNext()) {
                    reader.beginArray()
                    names += reader.nextString()
                    scores += reader.nextDouble()
                    reader.endArray()
                }
                reader.endArray()
            }
            reader.endObject()
            return facts
        }
    }
}
