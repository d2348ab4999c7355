// As much of Apple's CoreVideo as MedgeKit calls: a pixel buffer whose rows are padded, as Apple's may be.

public typealias CVReturn = Int32
public typealias OSType = UInt32
public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241

public final class CVPixelBuffer {
    public let width: Int
    public let height: Int
    public let stride: Int
    public let base: UnsafeMutableRawPointer

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
        stride = (width * 4 + 63) / 64 * 64
        base = UnsafeMutableRawPointer.allocate(byteCount: max(stride * height, 1), alignment: 64)
    }

    deinit { base.deallocate() }
}

public struct CVPixelBufferLockFlags: OptionSet {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

@discardableResult
public func CVPixelBufferCreate(
    _ allocator: AnyObject?, _ width: Int, _ height: Int, _ format: OSType, _ attributes: AnyObject?,
    _ out: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    precondition(format == kCVPixelFormatType_32BGRA)
    out.pointee = CVPixelBuffer(width: width, height: height)
    return 0
}

@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn { 0 }
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn { 0 }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { buffer.base }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.stride }
