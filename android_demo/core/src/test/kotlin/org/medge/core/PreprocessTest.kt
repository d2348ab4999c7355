package org.medge.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class PreprocessTest {
    @Test
    fun everyProfileGivesPythonsPixelsToTheBit() {
        val golden = GoldenFiles.encoder().tensors("pixels.safetensors")
        val sources = generateSequence(0) { it + 1 }.takeWhile { "$it.u8.source" in golden }.toList()
        assertTrue("tall, wide, odd and one-pixel pictures are among them", sources.size >= 14)
        var compared = 0
        for (number in sources) {
            for (type in listOf("u8", "u16")) {
                val source = imageOf(golden["$number.$type.source"])
                for (profile in Profile.values()) {
                    for (side in listOf(112, 96)) {
                        val name = "$number.$type.${profile.id}.$side"
                        assertEquals(name, 0, difference(golden[name].raw(), profile.resize(source, side).bytes()))
                        compared++
                    }
                }
            }
        }
        assertEquals(sources.size * 2 * Profile.values().size * 2, compared)
    }

    @Test
    fun pixelsAreNormalisedByChannelInPlanes() {
        val normalisation = Normalisation(listOf(0.5, 0.25, 0.0), listOf(0.5, 0.75, 2.0))
        val values = normalisation.of(Pixels.of(2, 1, byteArrayOf(0, 127, -1, -1, 0, 127)))
        assertEquals(listOf(-1f, 1f, ((127 / 255.0 - 0.25) / 0.75).toFloat(), (-0.25 / 0.75).toFloat(), 0.5f, (127 / 255.0 / 2).toFloat()), values.toList())
    }

    @Test
    fun aProfileThatIsNotKnownIsNamed() {
        assertTrue(assertProblem(Problem.WRONG_KIND) { Profile.of("eval-next") }.message!!.contains("eval-next"))
    }

    @Test
    fun hugeImagesAreRefusedBeforeTheyAreDecoded() {
        assertProblem(Problem.IMAGE_TOO_LARGE) { Pixels.checkSize(60_000, 60_000) }
        assertProblem(Problem.IMAGE_UNREADABLE) { Pixels.checkSize(0, 10) }
    }
}
