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
        val tokenizer = Tokenizer.load(golden.bundle.path("tokenizer")!!, golden.bundle.manifest.encoder!!.tokenizer)
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
        val tokenizer = Tokenizer.load(golden.bundle.path("tokenizer")!!, TokenizerFacts(8, endId = 1, padId = 0))
        val long = tokenizer.encode("opacity in the lower lobe of the right lung with an effusion")
        assertTrue(long.cut)
        assertEquals(8, long.ids.size)
        assertEquals(1L, long.ids.last())
        assertEquals(List(8) { 1L }, tokenizer.mask(long.ids).toList())
        val short = tokenizer.encode("opacity")
        assertTrue(!short.cut)
        val end = short.ids.indexOf(1L)
        assertTrue(end in 1..6)
        assertEquals(List(7 - end) { 0L }, short.ids.drop(end + 1))
        assertEquals(List(8) { if (it <= end) 1L else 0L }, tokenizer.mask(short.ids).toList())
    }

    @Test
    fun anotherKindOfTokenizerIsRefused() {
        val file = File.createTempFile("tokenizer", ".json").apply { deleteOnExit() }
        file.writeText("""{"model": {"type": "BPE", "vocab": {}}, "added_tokens": []}""")
        assertTrue(assertProblem(Problem.TOKENIZER_UNKNOWN) { Tokenizer.load(file, TokenizerFacts(64, 1, 1)) }.message!!.contains("BPE"))
        file.writeText("{")
        assertProblem(Problem.TENSORS_DAMAGED) { Tokenizer.load(file, TokenizerFacts(64, 1, 1)) }
    }
}
