package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import java.io.File

/** One turn of a conversation; the user's can hold an image. [complete] is false for an answer that was cut off. */
class Turn(val fromUser: Boolean, val text: String, val image: File? = null, val complete: Boolean = true)

/**
 * A conversation that outlives rotation, backgrounding and the death of the process: every step is written to a file before it is shown.
 *
 * An answer that was being written when the process died is there again, marked as cut off, and [resumable].
 */
class Conversation(private val file: File) {
    private val list = ArrayList<Turn>()
    private var unsaved = 0

    val turns: List<Turn> get() = list

    /** Whether the last answer was cut off and can be gone on with. */
    val resumable: Boolean get() = list.lastOrNull()?.let { !it.fromUser && !it.complete } ?: false

    init {
        val body = if (file.isFile) parseJson(file.readText()) as? JsonArray else null
        body?.forEach { value ->
            val turn = value as? JsonObject ?: return@forEach
            list += Turn(
                turn.flag("user") == true,
                turn.text("text").orEmpty(),
                turn.text("image")?.let { File(file.parentFile, it) }?.takeIf { it.isFile },
                turn.flag("complete") == true,
            )
        }
    }

    /** The user asks; an image must lie in the conversation's own folder. */
    fun ask(text: String, image: File?) {
        list += Turn(true, text, image)
        list += Turn(false, "", complete = false)
        save()
    }

    /** The answer so far. Written to the file every [SAVE_EVERY] pieces, and whenever [save] is called. */
    fun write(text: String, complete: Boolean) {
        list[list.size - 1] = Turn(false, text, complete = complete)
        if (complete || ++unsaved >= SAVE_EVERY) save()
    }

    /** Forget everything, images included. */
    fun clear() {
        list.mapNotNull { it.image }.forEach { it.delete() }
        list.clear()
        file.delete()
    }

    /** Write the file, under a temporary name first. */
    fun save() {
        val body = JsonArray()
        for (turn in list) {
            body.add(
                JsonObject().apply {
                    addProperty("user", turn.fromUser)
                    addProperty("text", turn.text)
                    turn.image?.let { addProperty("image", it.name) }
                    addProperty("complete", turn.complete)
                },
            )
        }
        val next = File(file.path + ".next")
        next.writeText(body.toString())
        next.renameTo(file)
        unsaved = 0
    }

    private companion object {
        const val SAVE_EVERY = 8
    }
}

/** Writes Gemma 3's prompts and reads its answers. */
class Chat(private val engine: Engine, private val manifest: Manifest) {
    private val facts = manifest.generator ?: throw MedgeException(Problem.WRONG_KIND, manifest.name)

    /** An image as the vision tower takes it. */
    fun picture(image: Pixels): Picture = 
        Picture(Profile.of(manifest.images.profile).resize(image, facts.imageSize).bytes(), facts.imageSize, facts.imageTokens)

    /**
     * A conversation to tokens and images, as the model's chat template writes it, ready for the model's next turn or for the rest of one
     * that was cut off. Text that names control tokens is taken as plain text.
     */
    fun prompt(turns: List<Turn>, decode: (File) -> Pixels): List<Item> {
        val out = ArrayList<Item>()
        val trusted = StringBuilder("<bos>")
        fun flush() {
            engine.tokenize(trusted.toString(), special = true).forEach { out += Token(it) }
            trusted.setLength(0)
        }
        fun add(text: String) {
            if (!engine.holdsControlToken(text)) {
                trusted.append(text) // tokenized together with what stands around it
                return
            }
            flush()
            engine.tokenize(text, special = false).forEach { out += Token(it) }
        }
        val open = turns.lastOrNull()?.takeIf { !it.fromUser && !it.complete }
        for (turn in turns) {
            if (turn === open) break
            trusted.append(if (turn.fromUser) USER else MODEL)
            if (turn.image != null) {
                trusted.append("\n\n<start_of_image>")
                flush()
                out += picture(decode(turn.image))
                trusted.append("<end_of_image>\n\n")
            }
            add(turn.text.trim())
            trusted.append("<end_of_turn>\n")
        }
        trusted.append(MODEL)
        open?.let { add(it.text) }
        flush()
        return out
    }

    /**
     * Generate an answer; [show] gets the whole text so far and returns whether to go on.
     *
     * @param begun what was already written of it, when it is gone on with
     * @return the text, and whether it is complete
     */
    fun answer(prompt: List<Item>, limit: Int, begun: String = "", show: (String) -> Boolean): Pair<String, Boolean> {
        val bytes = java.io.ByteArrayOutputStream()
        var text = begun
        val ended = engine.generate(prompt, limit) { token ->
            bytes.write(engine.piece(token))
            text = begun + wholeCharacters(bytes.toByteArray())
            show(text)
        }
        return text to ended
    }

    companion object {
        private const val USER = "<start_of_turn>user\n"
        private const val MODEL = "<start_of_turn>model\n"

        /** UTF-8 to text without the beginning of a character that is not there yet. */
        internal fun wholeCharacters(bytes: ByteArray): String {
            var end = bytes.size
            var back = 0
            while (back < 4 && end - back > 0) {
                val byte = bytes[end - 1 - back].toInt() and 0xff
                if (byte and 0xc0 == 0x80) {
                    back++
                    continue
                }
                val length = when {
                    byte >= 0xf0 -> 4
                    byte >= 0xe0 -> 3
                    byte >= 0xc0 -> 2
                    else -> 1
                }
                if (length > back + 1) end -= back + 1
                break
            }
            return String(bytes, 0, end)
        }
    }
}
