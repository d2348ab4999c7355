import Foundation

/// An image of 8 bits a channel, RGB, row by row from the top.
public struct RGBImage: Sendable {
    /// Columns, in pixels.
    public let width: Int
    /// Rows, in pixels.
    public let height: Int
    /// height · width · 3 values, 0 to 255: red, green and blue of one pixel after the other, no gaps between rows.
    public let bytes: [UInt8]

    /// Take bytes as an image.
    ///
    /// - Parameters:
    ///   - width: columns, in pixels.
    ///   - height: rows, in pixels.
    ///   - bytes: three of each pixel, as ``bytes`` holds them.
    /// - Precondition: there are height · width · 3 bytes.
    public init(width: Int, height: Int, bytes: [UInt8]) {
        precondition(bytes.count == width * height * 3, "an RGB image has three bytes a pixel")
        self.width = width
        self.height = height
        self.bytes = bytes
    }
}

/// An image of 16 bits a channel, RGB, row by row from the top: what a 16-bit PNG or TIFF holds.
public struct RGB16Image: Sendable {
    /// Columns, in pixels.
    public let width: Int
    /// Rows, in pixels.
    public let height: Int
    /// height · width · 3 values, 0 to 65535: red, green and blue of one pixel after the other, no gaps between rows.
    public let values: [UInt16]

    /// Take values as an image.
    ///
    /// - Parameters:
    ///   - width: columns, in pixels.
    ///   - height: rows, in pixels.
    ///   - values: three of each pixel, as ``values`` holds them.
    /// - Precondition: there are height · width · 3 values.
    public init(width: Int, height: Int, values: [UInt16]) {
        precondition(values.count == width * height * 3, "an RGB image has three values a pixel")
        self.width = width
        self.height = height
        self.values = values
    }

    /// To bytes, rounded to nearest (65535 = 257 · 255).
    var rounded: RGBImage { RGBImage(width: width, height: height, bytes: values.map { UInt8((Int($0) + 128) / 257) }) }

    /// To bytes in single precision, the fraction cut off.
    var truncated: RGBImage { RGBImage(width: width, height: height, bytes: values.map { UInt8(Float($0) / 65535 * 255) }) }
}

/// The preprocessing path that a bundle was made and measured with; the same pixels as medge's Python runtime.
public enum Profile: String, Sendable {
    /// `tf.image.resize`: bilinear, half-pixel centres, no antialiasing, truncated to bytes.
    case evalTF = "eval-tf"
    /// Pillow's bicubic, as the Hugging Face processor resizes.
    case hfBicubic = "hf-bicubic"
    /// Pillow's bilinear, with antialiasing.
    case finetunePIL = "finetune-pil"
    /// Zeros around the image until it is a square, then Pillow's bicubic.
    case servingPad = "serving-pad"
    /// The shorter edge to the side by Pillow's bicubic, then the middle square, as CLIP's processor.
    case clipCrop = "clip-crop"

    /// Resize an image of 8 bits.
    ///
    /// - Parameters:
    ///   - image: of any size that is not empty.
    ///   - side: width and height of the result, in pixels.
    /// - Returns: the square that the model sees, before normalisation, equal to Python's to the bit.
    public func resize(_ image: RGBImage, side: Int) -> RGBImage {
        switch self {
        case .evalTF: return resizeTensorFlow(image, side: side)
        case .hfBicubic: return resamplePIL(image, columns: side, rows: side, kernel: .bicubic)
        case .finetunePIL: return resamplePIL(image, columns: side, rows: side, kernel: .bilinear)
        case .servingPad: return resamplePIL(padToSquare(image), columns: side, rows: side, kernel: .bicubic)
        case .clipCrop: return shorterEdgeAndCrop(image, side: side)
        }
    }

    /// Resize an image of 16 bits, which is first reduced to 8 as Python's runtime does it.
    ///
    /// - Parameters:
    ///   - image: of any size that is not empty.
    ///   - side: width and height of the result, in pixels.
    /// - Returns: the square that the model sees, before normalisation, equal to Python's to the bit.
    public func resize(_ image: RGB16Image, side: Int) -> RGBImage {
        resize(self == .servingPad ? image.truncated : image.rounded, side: side)
    }
}

/// `tf.image.resize` cast to bytes: half-pixel centres, no antialiasing, truncated; all in single precision.
func resizeTensorFlow(_ image: RGBImage, side: Int) -> RGBImage {
    func corners(_ size: Int) -> [(low: Int, high: Int, weight: Float)] {
        let scale = Float(size) / Float(side)
        return (0..<side).map { index in
            let position = (Float(index) + 0.5) * scale - 0.5
            let floor = position.rounded(.down)
            return (max(Int(floor), 0), min(Int(floor) + 1, size - 1), position - floor)
        }
    }
    let rows = corners(image.height)
    let columns = corners(image.width)
    var out = [UInt8](repeating: 0, count: side * side * 3)
    func pixel(_ y: Int, _ x: Int, _ channel: Int) -> Float { Float(image.bytes[(y * image.width + x) * 3 + channel]) }
    for (y, row) in rows.enumerated() {
        for (x, column) in columns.enumerated() {
            for channel in 0..<3 {
                let a = pixel(row.low, column.low, channel), b = pixel(row.low, column.high, channel)
                let c = pixel(row.high, column.low, channel), d = pixel(row.high, column.high, channel)
                let upper = a + (b - a) * column.weight
                let lower = c + (d - c) * column.weight
                out[(y * side + x) * 3 + channel] = UInt8(upper + (lower - upper) * row.weight)
            }
        }
    }
    return RGBImage(width: side, height: side, bytes: out)
}

func triangle(_ x: Double) -> Double { abs(x) < 1 ? 1 - abs(x) : 0 }

/// Keys' cubic with a = -0.5, as Pillow's.
func cubic(_ x: Double) -> Double {
    let x = abs(x)
    if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
    if x < 2 { return ((-0.5 * x + 2.5) * x - 4) * x + 2 }
    return 0
}

/// One of Pillow's filters, and how far it reaches.
struct Kernel {
    let filter: (Double) -> Double
    let support: Double

    static let bilinear = Kernel(filter: triangle, support: 1)
    static let bicubic = Kernel(filter: cubic, support: 2)
    static let bits = 22  // of fixed point, in which Pillow's weights are

    func coefficients(_ size: Int, _ side: Int) -> [(first: Int, weights: [Int])] {
        let scale = Double(size) / Double(side)
        let stretch = max(scale, 1)
        return (0..<side).map { index in
            let centre = (Double(index) + 0.5) * scale
            let first = max(Int(centre - support * stretch + 0.5), 0)
            let last = min(Int(centre + support * stretch + 0.5), size)
            let raw = (first..<last).map { filter((Double($0) - centre + 0.5) / stretch) }
            let total = raw.reduce(0, +)
            return (first, raw.map { Int(($0 / total * Double(1 << Kernel.bits)).rounded(.toNearestOrAwayFromZero)) })
        }
    }

    static func clipped(_ sum: Int) -> UInt8 { UInt8(min(max((sum + (1 << (bits - 1))) >> bits, 0), 255)) }
}

func alongX(_ image: RGBImage, _ side: Int, _ kernel: Kernel) -> RGBImage {
    if image.width == side { return image }
    var out = [UInt8](repeating: 0, count: image.height * side * 3)
    for (x, column) in kernel.coefficients(image.width, side).enumerated() {
        for y in 0..<image.height {
            for channel in 0..<3 {
                var sum = 0
                for (offset, weight) in column.weights.enumerated() {
                    sum += Int(image.bytes[(y * image.width + column.first + offset) * 3 + channel]) * weight
                }
                out[(y * side + x) * 3 + channel] = Kernel.clipped(sum)
            }
        }
    }
    return RGBImage(width: side, height: image.height, bytes: out)
}

func alongY(_ image: RGBImage, _ side: Int, _ kernel: Kernel) -> RGBImage {
    if image.height == side { return image }
    let row = image.width * 3
    var out = [UInt8](repeating: 0, count: side * row)
    for (y, line) in kernel.coefficients(image.height, side).enumerated() {
        for at in 0..<row {
            var sum = 0
            for (offset, weight) in line.weights.enumerated() {
                sum += Int(image.bytes[(line.first + offset) * row + at]) * weight
            }
            out[y * row + at] = Kernel.clipped(sum)
        }
    }
    return RGBImage(width: image.width, height: side, bytes: out)
}

/// Pillow's resampling of bytes: along x first, unless along y saves more than twice as much, as Pillow does from version 13 on.
func resamplePIL(_ image: RGBImage, columns: Int, rows: Int, kernel: Kernel) -> RGBImage {
    let rowsFirst = image.height > rows && image.height - rows > 2 * max(0, image.width - columns)
    return rowsFirst
        ? alongX(alongY(image, rows, kernel), columns, kernel) : alongY(alongX(image, columns, kernel), rows, kernel)
}

/// The shorter edge to `side`, then the middle square.
func shorterEdgeAndCrop(_ image: RGBImage, side: Int) -> RGBImage {
    let shorter = Double(min(image.width, image.height))
    let columns = Int(Double(side * image.width) / shorter), rows = Int(Double(side * image.height) / shorter)
    let resized = resamplePIL(image, columns: columns, rows: rows, kernel: .bicubic)
    let left = (columns - side) / 2, top = (rows - side) / 2
    let lines = (0..<side).map { y -> ArraySlice<UInt8> in
        let from = ((y + top) * columns + left) * 3
        return resized.bytes[from..<(from + side * 3)]
    }
    return RGBImage(width: side, height: side, bytes: Array(lines.joined()))
}

/// Zeros around the image, so that it becomes a square with the image in its middle.
func padToSquare(_ image: RGBImage) -> RGBImage {
    let size = max(image.width, image.height)
    let top = (size - image.height) / 2, left = (size - image.width) / 2
    var out = [UInt8](repeating: 0, count: size * size * 3)
    for y in 0..<image.height {
        let from = y * image.width * 3, to = ((y + top) * size + left) * 3
        out.replaceSubrange(to..<(to + image.width * 3), with: image.bytes[from..<(from + image.width * 3)])
    }
    return RGBImage(width: size, height: size, bytes: out)
}
