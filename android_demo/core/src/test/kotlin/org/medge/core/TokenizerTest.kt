package org.medge.core

import com.google.gson.JsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class TokenizerTest {
    @Test
    fun twoThousandTextsGetPythonsIds() {
        val golden = GoldenFiles.encoder()
        val tokenizer = Tokenizer.load(golden.bundle.path("tokenizer")!!, golden.bundle.manifest.encoder!!.textLength)
        val rows = golden.list("texts.json").map { it as JsonObject }
        val wrong = rows.filter { row ->
            tokenizer.encode(row.text("text")!!).ids.toList() != row.list("ids")!!.map { it.asLong }
        }
        assertTrue(rows.size >= 2000)
        val first = wrong.firstOrNull()?.let { "${it.text("text")!!.map { c -> "%04x".format(c.code) }} is ${it.list("ids")!!.take(20)}, not ${tokenizer.encode(it.text("text")!!).ids.take(20)}" }
        assertEquals(first, 0, wrong.size)
    }

    @Test
    fun longTextsAreCutAndSaid() {
        val golden = GoldenFiles.encoder()
        val tokenizer = Tokenizer.load(golden.bundle.path("tokenizer")!!, 8)
        val long = tokenizer.encode("opacity in the lower lobe of the right lung with an effusion")
        assertTrue(long.cut)
        assertEquals(8, long.ids.size)
        assertEquals(Tokenizer.END.toLong(), long.ids.last())
        assertTrue(!tokenizer.encode("opacity").cut)
    }

    @Test
    fun anotherKindOfTokenizerIsRefused() {
        val file = File.createTempFile("tokenizer", ".json").apply { deleteOnExit() }
        file.writeText("""{"model": {"type": "BPE", "vocab": {}}, "added_tokens": []}""")
        assertTrue(assertProblem(Problem.TOKENIZER_UNKNOWN) { Tokenizer.load(file, 64) }.message!!.contains("BPE"))
        file.writeText("{")
        assertProblem(Problem.TENSORS_DAMAGED) { Tokenizer.load(file, 64) }
    }
}
